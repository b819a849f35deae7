"""Several copies of the encoder in one file: which is audited, and how the user says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from core.encoders.copies import choose_copy
from core.encoders.load import load_encoder
from core.encoders.placement import Placement
from core.encoders.write import write_encoder
from core.errors import AuditError, UnsupportedInput, UsageError
from tests.unit.encoders.weights import CARD, random_state


def places(*prefixes: str) -> list[Placement]:
    return [Placement(prefix, {}, ()) for prefix in prefixes]


def chosen(*prefixes: str, wanted: str | None = None) -> str:
    choice = choose_copy(places(*prefixes), wanted, lambda one, other: one is other)
    assert sorted(p.prefix for p in choice.placements) == sorted(prefixes)
    return choice.placements[0].prefix


@pytest.mark.parametrize(
    ("used", "others"),
    [
        ("teacher.backbone.", ["student.module.backbone."]),  # DINO, iBOT, EsViT
        ("model.teacher.backbone.", ["model.student.backbone."]),  # DINOv2
        ("teacher_backbone.", ["student_backbone."]),  # lightly's DINO
        ("state_dict.backbone.", ["state_dict.student_backbone."]),  # lightly's benchmark
        ("state_dict.module.encoder_q.", ["state_dict.module.encoder_k."]),  # MoCo v1, v2
        ("module.base_encoder.", ["module.momentum_encoder."]),  # MoCo v3
        ("online_network.encoder.", ["target_network.encoder."]),  # BYOL
        ("online_encoder.net.", ["target_encoder.net."]),
        ("model_ema.module.", ["model."]),  # torchvision
        ("state_dict_ema.", ["state_dict."]),  # timm
        ("ema_model.", ["online_model."]),
        ("state_dict.backbone.", ["state_dict.momentum_backbone."]),  # solo-learn
        ("backbone.", ["backbone_momentum."]),  # lightly
        ("target_encoder.module.", ["encoder.module."]),  # I-JEPA
        ("encoder.", ["encoder_k."]),  # MoBY, PixPro
        ("state_dict_ema.teacher.", ["state_dict.student.", "state_dict.teacher.", "state_dict_ema.student."]),
    ],
)
def test_the_familys_convention_decides(used: str, others: list[str]) -> None:
    assert chosen(used, *others) == used
    assert chosen(*others, used) == used


@pytest.mark.parametrize("names", [("left.", "right."), ("encoder.", "target_encoder."), ("state_dict.", "best.")])
def test_what_no_convention_settles_is_asked(names: tuple[str, str]) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        chosen(*names)
    problem = caught.value.problem
    assert problem.code == "ambiguous_checkpoint"
    for name in names:
        option = name.strip(".")
        assert f"--copy {option}" in problem.action
        assert chosen(*names, wanted=option) == name


@pytest.mark.parametrize("wanted", ["student", "student.module.backbone", "student.module.backbone.*", "stud"])
def test_the_users_word_goes_before_the_convention(wanted: str) -> None:
    assert chosen("teacher.backbone.", "student.module.backbone.", wanted=wanted) == "student.module.backbone."


def test_a_word_for_several_copies_leaves_the_convention_to_choose_among_them() -> None:
    four = ("a.student.", "a.teacher.", "b.student.", "b.teacher.")
    assert chosen(*four, wanted="b") == "b.teacher."
    with pytest.raises(UnsupportedInput, match=r"--copy a\.teacher, --copy b\.teacher"):
        chosen(*four, wanted="teacher")


def test_a_word_that_names_no_copy() -> None:
    with pytest.raises(UsageError, match=r"--copy student, --copy teacher") as caught:
        chosen("student.", "teacher.", wanted="momentum")
    assert caught.value.problem.code == "unknown_copy"


def test_a_word_where_there_is_one_encoder_only() -> None:
    with pytest.raises(UsageError, match=r"holds one encoder, \(the file itself\)\. .* Leave copy out") as caught:
        chosen("", wanted="teacher")
    assert caught.value.problem.code == "unknown_copy"


def test_equal_copies_need_no_question() -> None:
    choice = choose_copy(places("left.", "right."), None, lambda one, other: True)
    assert choice.words is not None
    assert "with the same weights" in choice.words


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_state()


def dino(state: dict[str, Tensor]) -> dict[str, Any]:
    """A student that is not its teacher."""
    other = {f"module.backbone.{k}": v for k, v in random_state(seed=1).items()}
    return {"student": other, "teacher": {f"backbone.{k}": v for k, v in state.items()}, "epoch": 3}


def first_layer(path: Path, **words: Any) -> Tensor:
    weight = load_encoder(path, **words).encoder.backbone.state_dict()["conv1.0.weight"]
    assert isinstance(weight, Tensor)
    return weight


def test_of_a_dino_checkpoint_the_teacher_is_loaded(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "dino.pth"
    torch.save(dino(state), path)
    loaded = load_encoder(path, card=CARD)
    assert torch.equal(loaded.encoder.backbone.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert loaded.copy is not None
    assert loaded.copy.startswith("of its copies teacher.backbone.*, the teacher, which DINO")
    assert loaded.copy.endswith("also in the file: student.module.backbone.*")
    assert loaded.copy in loaded.reading.audited
    assert loaded.reading.assumptions == ()


def test_the_request_and_the_card_can_ask_for_the_student(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "dino.safetensors"
    save_file({f"{side}.{k}": v.clone() for side in ("student", "teacher") for k, v in dino(state)[side].items()}, path)
    student = random_state(seed=1)["conv1.0.weight"]
    assert torch.equal(first_layer(path, card=CARD, copy="student"), student)
    assert torch.equal(first_layer(path, card={**CARD, "copy": "student"}), student)
    assert torch.equal(first_layer(path, card={"copy": "student"}), student)
    assert torch.equal(first_layer(path, card={**CARD, "copy": "student"}, copy="teacher"), state["conv1.0.weight"])
    with pytest.raises(AuditError, match=r"one of student\.module\.backbone, teacher\.backbone"):
        load_encoder(path, card=CARD, copy="momentum")


def test_a_purified_copy_no_longer_says_which_it_was(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path, output = tmp_path / "dino.pth", tmp_path / "out.safetensors"
    torch.save(dino(state), path)
    loaded = load_encoder(path, card={**CARD, "copy": "teacher"})
    write_encoder(loaded, loaded.encoder, output)
    again = load_encoder(output)
    assert again.copy is None
    assert torch.equal(again.encoder.backbone.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
