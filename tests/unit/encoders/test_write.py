from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.encoders.load import LoadedEncoder, load_encoder
from core.encoders.write import write_encoder
from core.errors import AuditFailed, UsageError
from core.types import Encoder
from tests.unit.encoders.weights import CARD, random_state

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_state()


def changed(loaded: LoadedEncoder, dtype: torch.dtype = torch.float32) -> Encoder:
    """The encoder with every weight moved to another value that ``dtype`` holds exactly."""
    encoder = copy.deepcopy(loaded.encoder)
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            parameter.copy_((parameter * 1.25).to(dtype).float())
    return encoder


def features(encoder: Encoder) -> Tensor:
    with torch.no_grad():
        found: Tensor = encoder(IMAGES)
    return found


def test_safetensors_come_back_in_their_own_form(tmp_path: Path, state: dict[str, Tensor]) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    original = {f"encoder_q.{k}": v.half() if v.is_floating_point() else v for k, v in state.items()}
    original["encoder_q.fc.weight"] = torch.full((5, 1024), 0.5, dtype=torch.bfloat16)
    card = json.dumps(dict(CARD), indent=1)
    save_file(original, source, metadata={"encoder_card": card, "author": "someone"})
    loaded = load_encoder(source)
    purified = changed(loaded, torch.float16)
    write_encoder(loaded, purified, target)
    assert torch.equal(features(load_encoder(target).encoder), features(purified))
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"encoder_card": card, "author": "someone", "format": "pt"}
        written = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    assert {k: (v.dtype, v.shape) for k, v in written.items()} == {k: (v.dtype, v.shape) for k, v in original.items()}
    assert torch.equal(written["encoder_q.fc.weight"], original["encoder_q.fc.weight"])
    assert list(tmp_path.glob(".*")) == []


def test_a_card_from_the_request_goes_into_the_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file(state, source)
    loaded = load_encoder(source, card=CARD)
    write_encoder(loaded, changed(loaded), target)
    assert load_encoder(target).card == loaded.card


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_keeps_its_wrapper(tmp_path: Path, state: dict[str, Tensor], suffix: str) -> None:
    source, target = tmp_path / "in.pth", tmp_path / f"out{suffix}"
    weights = {f"module.{k}": v for k, v in state.items()} | {"module.fc.0.weight": torch.ones(3, 1024)}
    torch.save({"epoch": 7, "arch": "shufflenet", "state_dict": weights}, source)
    loaded = load_encoder(source, card=CARD)
    purified = changed(loaded)
    write_encoder(loaded, purified, target)
    assert torch.equal(features(load_encoder(target).encoder), features(purified))
    if suffix == ".pt":
        written: dict[str, Any] = torch.load(target, weights_only=True)
        assert (written["epoch"], written["arch"]) == (7, "shufflenet")
        assert set(written["state_dict"]) == set(weights)
    else:
        with safe_open(target, "pt") as file:
            assert set(file.keys()) == set(weights)


def test_a_bare_state_dict_stays_one(tmp_path: Path, state: dict[str, Tensor]) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.pt"
    save_file(state, source)
    loaded = load_encoder(source, card=CARD)
    write_encoder(loaded, changed(loaded), target)
    assert set(torch.load(target, weights_only=True)) == set(state)


def test_no_copy_of_the_old_weights_is_left(tmp_path: Path, state: dict[str, Tensor]) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.pt"
    save_file({f"{side}.{k}": v.clone() for side in ("encoder_q", "encoder_k") for k, v in state.items()}, source)
    loaded = load_encoder(source, card=CARD)
    write_encoder(loaded, changed(loaded), target)
    written = torch.load(target, weights_only=True)
    for key in state:
        assert torch.equal(written[f"encoder_q.{key}"], written[f"encoder_k.{key}"])
    assert not torch.equal(written["encoder_k.conv5.0.weight"], state["conv5.0.weight"])


def test_weights_beyond_the_files_dtype_are_an_error(tmp_path: Path, state: dict[str, Tensor]) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, source)
    loaded = load_encoder(source, card=CARD)
    purified = changed(loaded)
    with torch.no_grad():
        next(purified.backbone.parameters()).fill_(1e9)
    with pytest.raises(AuditFailed, match="float16"):
        write_encoder(loaded, purified, target)
    assert not target.exists()


def test_an_unknown_container(tmp_path: Path, state: dict[str, Tensor]) -> None:
    source = tmp_path / "in.safetensors"
    save_file(state, source)
    loaded = load_encoder(source, card=CARD)
    with pytest.raises(UsageError):
        write_encoder(loaded, loaded.encoder, tmp_path / "out.onnx")
