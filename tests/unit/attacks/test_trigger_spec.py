"""Triggers in words: what they become, and what is refused."""

import pytest
import torch

from core.attacks.trigger_spec import TriggerSpec, build_trigger, parse_trigger, patch_pattern
from core.errors import UsageError
from core.triggers import AdditiveTrigger, BlendedTrigger, MaskedTrigger


@pytest.mark.parametrize(("size", "side", "first"), [((32, 32), 10, 21), ((224, 224), 50, 173)])
def test_patch_without_a_place_stands_where_bad_encoders_does(size, side, first):
    mask = build_trigger(TriggerSpec(kind="white-patch", side=side), size).mask[0]
    rows, columns = torch.nonzero(mask, as_tuple=True)
    assert (int(rows.min()), int(columns.min())) == (first, first)
    assert (int(rows.max()), int(columns.max())) == (first + side - 1,) * 2


@pytest.mark.parametrize(("magnitude", "decibels"), [(50, 38.0), (100, 32.0)])
def test_spectral_spec_keeps_the_published_psnr_at_any_size(magnitude, decibels):
    spec = parse_trigger(f"spectral:magnitude={magnitude}")
    for size in ((32, 32), (64, 96)):
        trigger = build_trigger(spec, size)
        assert isinstance(trigger, AdditiveTrigger) and trigger.delta.shape == (3, *size)
        assert float(-10 * torch.log10(trigger.delta.square().mean())) == pytest.approx(decibels, abs=0.1)
    assert build_trigger(spec, (50, 45)).delta.shape == (3, 50, 45)


def test_command_line_text_says_it_all():
    assert parse_trigger("colour-patch:side=4,seed=3,top=1,left=2") == TriggerSpec(
        kind="colour-patch", side=4, seed=3, top=1, left=2
    )
    trigger = build_trigger(parse_trigger("colour-patch:side=4,seed=3,top=1,left=2"), (32, 32))
    assert isinstance(trigger, MaskedTrigger)
    assert torch.equal(trigger.pattern[:, 1:5, 2:6], patch_pattern(parse_trigger("colour-patch:side=4,seed=3")))
    assert isinstance(build_trigger(parse_trigger("blended:alpha=0.3"), (8, 8)), BlendedTrigger)


def test_settings_can_be_read_back():
    for text in ("white-patch:side=3", "spectral", "noise:grey_levels=16,seed=2", "blended", "noise-patch:seed=1"):
        spec = parse_trigger(text)
        assert TriggerSpec(**spec.settings()) == spec


@pytest.mark.parametrize("kind", ["colour-patch", "noise-patch"])
def test_random_patches_are_grey_levels_and_depend_on_the_seed(kind):
    one, same, other = (patch_pattern(TriggerSpec(kind=kind, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    torch.testing.assert_close(one * 255, (one * 255).round(), atol=1e-4, rtol=0)
    assert one.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("star", "star"),
        ("colour-patch:side", "KEY=VALUE"),
        ("colour-patch:side=4,side=5", "each once"),
        ("colour-patch:side=0", "side"),
        ("colour-patch:colour=red", "colour"),
        ("colour-patch:top=3", "top and left"),
        ("spectral:side=4", "spectral has no 'side'"),
        ("white-patch:seed=4", "white-patch has no 'seed'"),
    ],
)
def test_wrong_text_is_refused_with_the_fault(text, word):
    with pytest.raises(UsageError, match=word) as refused:
        parse_trigger(text)
    assert refused.value.problem.field.startswith("trigger") and "colour-patch:side=8" in refused.value.problem.action


@pytest.mark.parametrize("text", ["white-patch:side=33", "white-patch:side=8,top=25,left=0"])
def test_trigger_larger_than_the_image_is_a_usage_error(text):
    with pytest.raises(UsageError, match="32x32") as refused:
        build_trigger(parse_trigger(text), (32, 32))
    assert refused.value.problem.code == "trigger_too_large"


def test_what_is_no_patch_has_no_pattern_to_place():
    with pytest.raises(ValueError, match="spectral"):
        patch_pattern(TriggerSpec(kind="spectral"))
