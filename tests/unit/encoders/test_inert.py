"""Checkpoints full of objects: their weights are read, and nothing of them is imported or run."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.encoders.convert import Contents, flatten
from core.encoders.inert import TensorRecord
from core.encoders.load import load_encoder
from core.encoders.storages import Numbers, open_legacy, open_zip
from core.errors import UnsupportedInput
from tests.unit.encoders.weights import CARD, random_state


class Colour(Enum):
    RED = 1


class Settings(dict[str, Any]):
    """A configuration class of somebody's own."""


def lightning(state: dict[str, Tensor]) -> dict[str, Any]:
    """What Lightning's default callback and a careless ``save_hyperparameters`` leave beside the weights."""
    best = {"monitor": None, "best_model_score": torch.tensor(0.5), "kth_value": torch.tensor(0.25), "dirpath": "x"}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"backbone.{key}": value for key, value in state.items()},
        "callbacks": {"ModelCheckpoint{'monitor': None, 'mode': 'min'}": best},
        "hyper_parameters": Settings(
            lr=np.float64(0.1),
            when=datetime(2026, 1, 2, tzinfo=UTC),
            where=PurePosixPath("/data"),
            colour=Colour.RED,
            args=Namespace(a=1),
            activation=partial(torch.relu),
            seen={1, 2},
            means=np.array([0.5, 0.5]),
            shape=torch.Size([3, 4]),
            kind=torch.float16,
        ),
    }


def read(content: Any, zipped: bool, protocol: int) -> tuple[Contents, dict[str, Tensor], tuple[str, ...]]:
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    size = buffer.tell()
    buffer.seek(0)
    opened = (open_zip if zipped else open_legacy)(buffer)
    found = flatten(opened.content)
    numbers = Numbers(buffer, opened.spans, size)
    return found, {".".join(path): numbers.tensor(r, "x") for path, r in found.tensors}, opened.skipped


FORMS = [(True, 2), (True, 4), (True, 5), (False, 2), (False, 4)]


@pytest.mark.parametrize(("zipped", "protocol"), FORMS)
def test_weights_among_objects_are_read_exactly(zipped: bool, protocol: int) -> None:
    state = {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.tensor(7), "c": torch.ones(0, 3)}
    state |= {"d": torch.arange(8, dtype=torch.bfloat16)[3:5], "e": torch.tensor([True, False])}
    found, tensors, skipped = read(lightning(state), zipped, protocol)
    assert tensors.keys() == {f"state_dict.backbone.{key}" for key in state}
    for key, value in state.items():
        assert tensors[f"state_dict.backbone.{key}"].dtype == value.dtype
        assert torch.equal(tensors[f"state_dict.backbone.{key}"], value)
    assert [name.rpartition(".")[2] for name in found.left_out] == ["best_model_score", "kth_value"]
    assert {"datetime.datetime", "pathlib.PurePosixPath", "argparse.Namespace", f"{__name__}.Colour"} <= {*skipped}
    assert (["epoch"], 3) in found.scalars
    assert (["hyper_parameters", "lr"], 0.1) in found.scalars


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_types_without_a_storage_class_of_their_own(dtype: torch.dtype) -> None:
    value = torch.tensor([0.5, -2.0, 8.0]).to(dtype)
    _, tensors, _ = read({"a": nn.Parameter(value, requires_grad=False), "b": value}, True, 2)
    assert tensors["a"].dtype == tensors["b"].dtype == dtype
    assert torch.equal(tensors["b"].float(), value.float())


def test_a_class_that_acts_when_it_is_made_never_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, ran = ModuleType("trap"), tmp_path / "ran"

    class Trap:
        def __init__(self) -> None:
            self.value = 1

        def __setstate__(self, state: Any) -> None:
            ran.touch()

        def __reduce__(self) -> tuple[Callable[..., Any], tuple[()], dict[str, int]]:
            return Trap, (), {"value": 1}

    Trap.__module__, Trap.__qualname__ = "trap", "Trap"
    module.__dict__["Trap"] = Trap
    monkeypatch.setitem(sys.modules, "trap", module)
    path = tmp_path / "trap.ckpt"
    torch.save({"state_dict": random_state(), "cfg": Trap()}, path)
    loaded = load_encoder(path, card=CARD)
    assert not ran.exists()
    assert any("neither imported nor run: trap.Trap" in note for note in loaded.reading.notes)


def test_a_lightning_checkpoint_loads(tmp_path: Path) -> None:
    state = random_state()
    path = tmp_path / "last.ckpt"
    torch.save(lightning(state), path)
    loaded = load_encoder(path, card=CARD)
    assert torch.equal(loaded.encoder.backbone.state_dict()["conv5.0.weight"], state["conv5.0.weight"])
    assert any(
        "2 tensors under names that no state dict has, left out: best_model_score, kth" in note
        for note in loaded.reading.notes
    )


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 4, 1)  # two of one class: TorchScript gives the second another name
        self.register_buffer("passing", torch.ones(2), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.net(images)
        return result


@pytest.mark.parametrize(("zipped", "protocol"), FORMS)
def test_a_whole_network_gives_its_state_dict_without_its_class(zipped: bool, protocol: int) -> None:
    network = Wrapped()
    found, tensors, _ = read({"model": network, "epoch": 1}, zipped, protocol)
    expected = {f"model.{key}": value for key, value in network.state_dict().items()}
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[key], value) for key, value in expected.items())
    assert f"{__name__}.Wrapped" in found.emptied


def test_a_torchscript_archive_gives_its_weights_and_runs_nothing(tmp_path: Path) -> None:
    network = Wrapped().half()
    path = tmp_path / "script.pt"
    torch.jit.script(network).save(str(path))  # type: ignore[no-untyped-call]
    with path.open("rb") as file:
        opened = open_zip(file)
        found = flatten(opened.content)
        numbers = Numbers(file, opened.spans, path.stat().st_size)
        tensors = {".".join(p): numbers.tensor(record, "x") for p, record in found.tensors}
    for key, value in network.state_dict().items():
        assert torch.equal(tensors[key], value)


def test_a_record_says_where_its_numbers_lie() -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(12.0).view(3, 4)[1:, ::2]}, buffer)
    buffer.seek(0)
    record = open_zip(buffer).content["a"]
    assert isinstance(record, TensorRecord)
    assert (record.dtype, record.offset, record.shape, record.stride) == ("float32", 4, (2, 2), (4, 2))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_named_arrays_load_and_are_never_unpickled(tmp_path: Path, save: Callable[..., None]) -> None:
    state = random_state()
    path = tmp_path / "weights.npz"
    arrays: dict[str, Any] = {key: value.numpy() for key, value in state.items()}
    save(path, **arrays, labels=np.array(["a"]), objects=np.array([{}], dtype=object))
    loaded = load_encoder(path, card=CARD)
    assert torch.equal(loaded.encoder.backbone.state_dict()["conv5.0.weight"], state["conv5.0.weight"])
    assert {*loaded.source.left_out} == {"labels", "objects"}


def test_arrays_that_unpack_to_far_more_than_their_file(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(2**22, dtype=np.float32))
    with pytest.raises(UnsupportedInput, match="four times the file"):
        load_encoder(path, card=CARD)
