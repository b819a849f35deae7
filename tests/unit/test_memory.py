"""The memory budget: sizes in words, what is free, and the advice when memory runs out."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from core.audit import failures_explained
from core.errors import AuditFailed, UsageError
from core.memory import (
    _control_groups,
    _group_room,
    budget_on,
    current_budget,
    default_size,
    free_memory,
    memory_budget,
)
from core.memory_size import in_words, parse_size

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("3GiB", 3 * 2**30),
        (" 800 MB ", 800 * 10**6),
        ("2.5G", 25 * 10**8),
        ("1.5gib", 3 * 2**29),
        ("100000000", 10**8),
        (".25TiB", 2**38),
    ],
)
def test_sizes_with_and_without_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "three", "3 apples", "-3GiB", "1e9", "63MiB", "0", "GiB", "3GiBs"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.problem.code == "invalid_memory"


@pytest.mark.parametrize("size", [2**26, 10**9, 2**30 - 1, 2**30, 3 * 2**30 + 1, 54321987654])
def test_a_size_in_words_is_a_size_that_is_no_smaller(size: int) -> None:
    assert size <= parse_size(in_words(size)) <= 1.1 * size


def test_a_stated_budget_holds_within_its_block() -> None:
    assert current_budget() is None
    with memory_budget(2**30, CPU) as budget:
        assert budget_on(CPU) == current_budget() == budget
        assert (budget.size, budget.stated) == (2**30, True)
    assert current_budget() is None


def test_without_one_it_is_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.memory.free_memory", lambda device: 8 * 2**30)
    assert default_size(CPU) == 2 * 2**30
    with memory_budget(None, CPU) as budget:
        assert (budget.size, budget.stated) == (2 * 2**30, False)


def test_free_is_no_more_than_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_memory(CPU)
    assert 0 < free < 2**46
    # What 'ulimit -v' leaves is less than any system has.
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**20, 2**20))
    assert free_memory(CPU) == 0


def test_a_control_group_leaves_its_limit_less_what_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert _group_room(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert _group_room(tmp_path) is None


def test_groups_above_count_too_and_other_controllers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["12:cpu:/a", "5:memory:/a/b", "0::/c"]
    monkeypatch.setattr("core.memory._lines", lambda path: lines)
    folders = [str(folder.relative_to("/sys/fs/cgroup")) for folder in _control_groups()]
    assert folders == ["memory/a/b", "memory/a", "memory", ".", "c", "."]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_advises_a_smaller_budget_that_can_be_typed(error: Exception) -> None:
    with pytest.raises(AuditFailed) as caught, memory_budget(3 * 2**30, CPU), failures_explained():
        raise error
    action = caught.value.problem.action
    advised = action.partition("--memory ")[2].split()[0]
    assert parse_size(advised) == 3 * 2**29
    assert "batch size" not in action


def test_outside_of_an_audit_no_option_is_advised_that_is_not_there() -> None:
    with pytest.raises(AuditFailed) as caught, failures_explained():
        raise MemoryError
    assert "--memory" not in caught.value.problem.action
