from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.encoders.architectures import build_backbone, shapes_of
from core.encoders.card import parse_card
from core.encoders.placement import Path, Shape, search, unrecognised
from core.errors import UnsupportedInput
from tests.unit.encoders.weights import RESNET_CARD

EXPECTED: dict[str, Shape] = {"conv.weight": (4, 3, 3, 3), "bn.weight": (4,), "bn.num_batches_tracked": ()}
PARTS = st.lists(st.sampled_from(["module", "encoder", "backbone", "f", "0", "model"]), max_size=4)


def under(prefix: str, shapes: dict[str, Shape]) -> dict[Path, Shape]:
    return {(f"{prefix}{name}",): shape for name, shape in shapes.items()}


@given(PARTS, PARTS)
def test_any_nesting_of_dicts_and_prefixes_is_found(dicts: list[str], prefixes: list[str]) -> None:
    prefix = "".join(f"{part}." for part in prefixes)
    found = search({(*dicts, prefix + name): shape for name, shape in EXPECTED.items()}, EXPECTED)
    (placement,) = found.placements
    assert placement.prefix == "".join(f"{part}." for part in dicts) + prefix
    assert placement.paths == {name: (*dicts, prefix + name) for name in EXPECTED}


def test_a_layer_too_many_is_a_mismatch() -> None:
    found = search(under("", {**EXPECTED, "conv2.weight": (4, 4, 3, 3)}), EXPECTED)
    assert found.placements == ()
    assert found.nearest is not None
    assert found.nearest.unexpected == ("conv2.weight",)


def test_the_nearest_prefix_is_the_one_explained() -> None:
    found = search({**under("net.", {**EXPECTED, "bn.weight": (5,)}), ("x.y",): (1,)}, EXPECTED)
    assert found.nearest is not None
    assert found.nearest.prefix == "net."
    assert found.nearest.reshaped == ("bn.weight [5] instead of [4]",)


def test_every_copy_is_found() -> None:
    found = search({**under("student.module.", EXPECTED), **under("teacher.", EXPECTED)}, EXPECTED)
    assert [p.prefix for p in found.placements] == ["student.module.", "teacher."]


def test_dotted_names_that_collide_are_refused() -> None:
    with pytest.raises(UnsupportedInput):
        search({("a", "b"): (1,), ("a.b",): (1,)}, EXPECTED)


def resnet_shapes() -> dict[str, Shape]:
    return shapes_of(build_backbone(parse_card(RESNET_CARD), device="meta"))


def numbered(shapes: dict[str, Shape], layers: int) -> dict[Path, Shape]:
    """A ResNet's children in nn.Sequential, the first layer being child ``layers``."""
    numbers = {"conv1": 0, "bn1": 1} | {f"layer{i + 1}": layers + i for i in range(4)}
    renamed: dict[Path, Shape] = {}
    for name, shape in shapes.items():
        top, _, rest = name.partition(".")
        renamed[(f"f.f.{numbers[top]}.{rest}",)] = shape
    return renamed


@pytest.mark.parametrize(("first_layer", "pool_removed"), [(3, True), (4, False)])
def test_numbered_resnets_are_mapped_exactly(first_layer: int, pool_removed: bool) -> None:
    expected = resnet_shapes()
    shapes = numbered(expected, first_layer) | {("g.0.weight",): (512, 512)}
    (placement,) = search(shapes, expected).placements
    assert placement.prefix == "f.f."
    assert placement.max_pool_removed == pool_removed
    assert placement.paths["layer2.0.conv1.weight"] == (f"f.f.{first_layer + 1}.0.conv1.weight",)
    assert placement.paths["layer4.1.bn2.bias"] == (f"f.f.{first_layer + 3}.1.bn2.bias",)


def test_known_neighbours_of_an_encoder_are_not_worth_a_note() -> None:
    known = ["module.encoder_q.fc.0.weight", "module.queue", "teacher.conv.weight", "dino_loss.center", "g.0.weight"]
    known.append("callbacks.ModelCheckpoint{'monitor': None, 'every_n_epochs': 1}.current_score")
    assert unrecognised(known) == ()
    assert unrecognised([*known, "watermark.weight"]) == ("watermark",)
