"""The lab's commands without the lab's packages."""

import sys

import pytest

from core.cli.lab import require_lab_packages
from core.errors import UsageError


def test_with_the_packages_there_is_nothing_to_say():
    require_lab_packages("pretrain")


@pytest.mark.parametrize("missing", [("lightly",), ("lightly", "yaml")])
def test_what_is_missing_is_named_before_anything_is_read(monkeypatch, missing):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError) as caught:
        require_lab_packages("pretrain")
    problem = caught.value.problem
    assert problem.code == "missing_extra" and problem.field == "pretrain"
    assert all(name in problem.found for name in missing) and "encoder-audit[lab]" in problem.action
