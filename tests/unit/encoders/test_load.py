"""Loading what people really save, and refusing what they should not have sent."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.encoders.load import LoadedEncoder, load_encoder
from core.errors import UnsupportedInput, UsageError
from tests.unit.encoders.weights import CARD, RESNET_CARD, random_state, reference_features

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_state()


def code_of(path: Path, card: Any = CARD) -> str:
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path, card=card)
    assert caught.value.exit_code == 3
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code


def same_features(loaded: LoadedEncoder, state: dict[str, Tensor]) -> bool:
    with torch.no_grad():
        return torch.allclose(loaded.encoder(IMAGES), reference_features(CARD, state, IMAGES), rtol=1e-4, atol=1e-5)


def test_a_safetensors_file_that_describes_itself(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "amber.safetensors"
    save_file(state, path, metadata={"encoder_card": json.dumps(dict(CARD))})
    loaded = load_encoder(path)
    assert same_features(loaded, state)
    assert loaded.encoder.name == "amber.safetensors"
    assert loaded.encoder.image_size == (32, 32)
    assert loaded.encoder.feature_dim == loaded.card.feature_dim == 1024
    assert loaded.parameters == sum(p.numel() for p in loaded.encoder.backbone.parameters())
    assert len(loaded.digest) == 64
    assert not loaded.encoder.training
    assert not any(p.requires_grad for p in loaded.encoder.parameters())
    assert loaded.dropped == ()
    assert loaded.reading.assumptions == loaded.reading.notes == ()
    assert loaded.reading.audited == (
        "torchvision/shufflenet_v2_x0_5 at 32x32, mean 0.5 0.4 0.3, std 0.2 0.3 0.25; read by the file's own card."
    )


def test_half_precision_is_loaded_as_single(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "half.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    loaded = load_encoder(path, card=CARD)
    assert {p.dtype for p in loaded.encoder.backbone.parameters()} == {torch.float32}


def test_the_name_in_messages_and_reports_is_the_users(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "000001.bin"
    save_file(state, path)
    assert load_encoder(path, card=CARD, name="mine.safetensors").encoder.name == "mine.safetensors"


@pytest.mark.parametrize("suffix", [".card.json", ".safetensors.card.json", ".json"])
def test_a_card_beside_the_file(tmp_path: Path, state: dict[str, Tensor], suffix: str) -> None:
    path = tmp_path / "amber.safetensors"
    save_file(state, path)
    (tmp_path / f"amber{suffix}").write_text(json.dumps(dict(CARD)))
    loaded = load_encoder(path)
    assert same_features(loaded, state)
    assert f"read by the card beside the file, amber{suffix}" in loaded.reading.audited


def test_the_requests_card_goes_before_the_files(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "amber.safetensors"
    save_file(state, path, metadata={"encoder_card": json.dumps({**CARD, "input_size": 64})})
    assert load_encoder(path, card=CARD).encoder.image_size == (32, 32)


def test_a_broken_card_in_the_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "amber.safetensors"
    save_file(state, path, metadata={"encoder_card": "{not json"})
    assert code_of(path, None) == "invalid_card"


def wrapped(state: dict[str, Tensor], form: str) -> dict[str, Any]:
    """The checkpoint forms of common training code, around the same weights."""

    def under(prefix: str, factor: float = 1.0) -> dict[str, Tensor]:
        return {prefix + k: v * factor if v.is_floating_point() else v for k, v in state.items()}

    head = {"0.weight": torch.ones(4, 1024), "0.bias": torch.zeros(4)}
    match form:
        case "bare with a classification head":
            return {**state, "fc.weight": torch.ones(10, 1024), "fc.bias": torch.zeros(10)}
        case "moco":
            weights = {**under("module.encoder_q."), **{f"module.encoder_q.fc.{k}": v for k, v in head.items()}}
            weights |= {**under("module.encoder_k.", 0.5), "module.queue": torch.ones(4, 8)}
            weights["module.queue_ptr"] = torch.zeros(1, dtype=torch.long)
            return {"epoch": 200, "arch": "shufflenet", "state_dict": weights, "optimizer": optimizer_state()}
        case "moco v3":
            return {"state_dict": {**under("module.base_encoder."), **under("module.momentum_encoder.", 0.5)}}
        case "simclr":
            return {**under("f."), **{f"g.{k}": v for k, v in head.items()}}
        case "byol":
            online = {f"online_network.projector.{k}": v for k, v in head.items()}
            slow = under("target_network.encoder.", 0.5)
            return {"model": {**under("online_network.encoder."), **online, **slow}}
        case "dino":
            fast = under("module.backbone.", 0.5)
            return {"student": fast, "teacher": under("backbone."), "dino_loss": {"center": torch.zeros(1, 8)}}
        case "clip":
            return {**under("visual."), "logit_scale": torch.tensor(4.6)}
        case "compiled":
            return {"net": under("_orig_mod.module.model.backbone.")}
    raise AssertionError(form)


def optimizer_state() -> dict[str, Any]:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of nested dicts by dotted name."""
    found: dict[str, Tensor] = {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{key}"] = value.clone()
        elif isinstance(value, dict):
            found |= flat({str(k): v for k, v in value.items()}, f"{prefix}{key}.")
    return found


FORMS = ["bare with a classification head", "moco", "moco v3", "simclr", "byol", "dino", "clip", "compiled"]


@pytest.mark.parametrize("form", FORMS)
def test_the_wrappers_people_save(tmp_path: Path, state: dict[str, Tensor], form: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_file(flat(wrapped(state, form)), path)  # prefixes are prefixes, in a name or as nested dicts; no child needed
    loaded = load_encoder(path, card=CARD)
    assert same_features(loaded, state)
    assert (loaded.dropped != ()) == (form != "compiled")
    if form in ("moco", "moco v3", "byol", "dino"):
        assert loaded.copy is not None
        assert loaded.copy in loaded.reading.audited
    else:
        assert loaded.copy is None


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_in_both_forms_of_torch_save(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool
) -> None:
    path = tmp_path / "moco_v2.pth.tar"
    extras = {"args": Namespace(lr=0.1, path="x"), "best": np.float64(91.2), "history": [1.0, 2.0]}
    content = wrapped({k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()}, "moco")
    torch.save({**content, **extras}, path, _use_new_zipfile_serialization=zipped)
    loaded = load_encoder(path, card=CARD)
    assert same_features(loaded, state)
    assert any(name.startswith("optimizer.state.") for name in loaded.dropped)
    assert loaded.source.scalars[("epoch",)] == 200


def test_a_file_without_batch_counters(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "old.safetensors"
    save_file({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    loaded = load_encoder(path, card=CARD)
    assert same_features(loaded, state)
    assert "batch counters" in loaded.reading.notes[0]
    assert loaded.reading.assumptions == ()


def test_modules_before_the_encoder_are_not_passed_over_in_silence(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "stem.safetensors"
    save_file({**{f"1.{k}": v for k, v in state.items()}, "denoiser.weight": torch.ones(3, 3, 1, 1)}, path)
    (note,) = load_encoder(path, card=CARD).reading.assumptions
    assert "not audited: denoiser" in note


def test_two_copies_of_equal_rank_are_ambiguous(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "two.safetensors"
    save_file({f"{side}.{k}": v + (side == "left") for side in ("left", "right") for k, v in state.items()}, path)
    assert code_of(path) == "ambiguous_checkpoint"


def test_weights_of_another_architecture(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path, card=RESNET_CARD)
    assert caught.value.problem.code == "keys_do_not_match"
    assert "missing: " in caught.value.problem.found
    assert "unexpected: " in caught.value.problem.found


def test_a_missing_key_and_a_reshaped_one_are_listed(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "cut.safetensors"
    cut = {**state, "conv5.0.weight": torch.zeros(7, 7)}
    del cut["conv1.0.weight"]
    save_file(cut, path)
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path, card=CARD)
    assert "1 missing: conv1.0.weight" in caught.value.problem.found
    assert "conv5.0.weight [7, 7] instead of [1024, 192, 1, 1]" in caught.value.problem.found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(tmp_path: Path, state: dict[str, Tensor], value: float) -> None:
    path = tmp_path / "diverged.safetensors"
    broken = {k: v.clone() for k, v in state.items()}
    broken["conv5.0.weight"][3, 2] = value
    save_file(broken, path)
    with pytest.raises(UnsupportedInput, match=r"conv5\.0\.weight with 1 of") as caught:
        load_encoder(path, card=CARD)
    assert caught.value.problem.code == "not_finite"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_whole_numbers_in_place_of_weights(tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype) -> None:
    path = tmp_path / "quantised.safetensors"
    save_file({**state, "conv5.0.weight": (100 * state["conv5.0.weight"]).to(dtype)}, path)
    with pytest.raises(UnsupportedInput, match=r"conv5\.0\.weight as (u?int|bool)") as caught:
        load_encoder(path, card=CARD)
    assert caught.value.problem.code == "quantised_weights"


def test_a_feature_length_that_the_card_gets_wrong(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    save_file(state, path)
    assert code_of(path, {**CARD, "feature_dim": 512}) == "feature_dim_does_not_match"


def test_an_absent_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_encoder(tmp_path / "nothing.safetensors")
    assert caught.value.problem.code == "no_such_file"


def test_without_a_card_a_plain_network_is_recognised(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({f"module.backbone.{k}": v for k, v in state.items()}, path)
    loaded = load_encoder(path)
    assert loaded.card.architecture == CARD["architecture"]
    assert loaded.card.image_size == (224, 224)
    assert any("No card was given" in sentence for sentence in loaded.reading.assumptions)
    assert "assumed from names and shapes" in loaded.reading.audited


def test_without_a_card_a_small_image_stem_is_ambiguous(tmp_path: Path) -> None:
    path = tmp_path / "cifar.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in random_state(RESNET_CARD).items()}, path)
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path)
    assert caught.value.problem.code == "ambiguous_architecture"
    assert "torchvision/resnet18" in caught.value.problem.found
    sample = json.loads(caught.value.problem.action.partition("sample: ")[2])
    assert load_encoder(path, card=sample).encoder.feature_dim == 512


def test_without_a_card_unknown_weights_ask_for_one(tmp_path: Path) -> None:
    path = tmp_path / "strange.safetensors"
    save_file({f"layer{i}.weight": torch.ones(2, 2) for i in range(20)}, path)
    assert code_of(path, None) == "missing_card"
