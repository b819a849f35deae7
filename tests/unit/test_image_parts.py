"""The parts of an audit's images: their sizes, and that no image that judges a purified copy has trained it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.canary.planted import CANARIES, plant_canary
from core.image_parts import PartSizes, part_sizes, parts_of, to_search, to_train
from core.images.load import LEAST_IMAGES
from core.kinds.findings import Subject
from core.kinds.purify import purify
from core.methods import Choice, Detect
from core.recovery.detection import Detection, RecoveredTrigger
from core.registry import DETECTION, PURIFICATION
from core.run import QuietRun, Run
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, ImageSet, Verdict
from tests.planted import Planted, planted_images, planted_patch

COUNT = 80
LEVELS = 2
"""Grey levels between the marks of two images: 80 of them stay below the brightness that sets the planted patch off."""
SHORT: dict[str, Any] = {
    "steps": 2,
    "additive_steps": 2,
    "spectral_steps": 2,
    "window_steps": 3,
    "target_steps": 2,
    "square_stride": 0.25,
}


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (500, PartSizes(125, 50, 325)),
        (LEAST_IMAGES, PartSizes(12, 8, 30)),
        (5000, PartSizes(256, 256, 4488)),
        (24, PartSizes(8, 8, 8)),
        (20, PartSizes(6, 6, 8)),
        (3, PartSizes(1, 1, 1)),
        (2, PartSizes(0, 0, 2)),
    ],
)
def test_how_many_images_each_part_has(count: int, sizes: PartSizes) -> None:
    assert part_sizes(count) == sizes
    parts = parts_of(count, 0)
    assert (len(parts.judging), len(parts.guard), len(parts.training)) == (sizes.judging, sizes.guard, sizes.training)


def test_no_two_parts_share_an_image_and_none_is_left_out() -> None:
    parts = parts_of(100, 3)
    assert sorted(torch.cat([parts.judging, parts.guard, parts.training]).tolist()) == list(range(100))
    assert torch.equal(parts.judging, parts_of(100, 3).judging)
    assert not torch.equal(parts.judging, parts_of(100, 4).judging)


def test_searching_and_training_share_a_part() -> None:
    images = planted_images(64)
    parts = parts_of(64, 1)
    (searched, judging), (trained, guard) = (take(images, torch.device("cpu"), 1) for take in (to_search, to_train))
    assert torch.equal(searched, trained) and torch.equal(trained, images.batch(parts.training))
    assert torch.equal(judging, images.batch(parts.judging)) and torch.equal(guard, images.batch(parts.guard))


def others_in(images: ImageSet, part: Tensor) -> ImageSet:
    """``images`` with others in ``part``."""
    pixels = images.pixels.clone()
    pixels[part] = planted_images(len(part), seed=7).pixels
    return replace(images, pixels=pixels, digest="others")


def weights(encoder: Encoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("method", PURIFICATION, ids=lambda method: method.key)
def test_a_copy_does_not_depend_on_the_images_that_judge_it(method: Any) -> None:
    planted, images, parts = planted_patch(), planted_images(COUNT), parts_of(COUNT, 0)
    steps = {name: 3 for name, value in method.config.model_fields.items() if name.endswith("steps") and value.default}
    config = method.config(**steps)

    def made(given: ImageSet) -> dict[str, Tensor]:
        return weights(method.apply(planted.encoder, given, [planted.trigger], config, QuietRun(), seed=0).student)

    copy = made(images)
    assert same(copy, made(others_in(images, parts.judging)))
    assert not same(copy, made(others_in(images, parts.training)))


def test_a_canary_is_not_planted_by_the_images_that_judge_it_or_guard() -> None:
    encoder, images, parts = planted_patch().twin, planted_images(COUNT), parts_of(COUNT, 0)

    def made(given: ImageSet) -> dict[str, Tensor]:
        return weights(plant_canary(encoder, given, CANARIES[0], 3, QuietRun(), seed=0).encoder)

    copy = made(images)
    assert same(copy, made(others_in(images, torch.cat([parts.judging, parts.guard]))))
    assert not same(copy, made(others_in(images, parts.training)))


def marked_images() -> ImageSet:
    """Images that are told by their blue: image i has ``LEVELS`` * i everywhere, which neither a crop nor a flip nor a
    patch on a part of it changes."""
    images = planted_images(COUNT)
    pixels = images.pixels.clone()
    pixels[:, 2] = (LEVELS * torch.arange(COUNT)).view(-1, 1, 1)
    return replace(images, pixels=pixels, digest="marked")


def marks(images: Tensor) -> set[int]:
    """The numbers of the marked ``images``; those whose blue is no longer one level for the most part are left out."""
    blue = images.detach()[:, 2].flatten(1).double() * 255
    mark = blue.median(1).values
    told = ((blue - mark[:, None]).abs() < 0.1).double().mean(1) > 0.6
    return {round(level / LEVELS) for level in mark[told].tolist()}


@dataclass
class Seen:
    """The images that passed the encoder or a copy of it with a gradient to its weights or to their pixels, and those
    that a detection applied its triggers to."""

    trained: set[int] = field(default_factory=set)
    searched: set[int] = field(default_factory=set)
    judged: set[int] = field(default_factory=set)
    detecting: bool = False

    def watch(self, encoder: Encoder) -> None:
        """Copies of ``encoder`` are watched, too."""

        def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if torch.is_grad_enabled() and any(weight.requires_grad for weight in module.parameters()):
                clean = given[0][: len(given[0]) // 2]  # of a step's pairs
                assert len(clean) == len(marks(clean)) == part_sizes(COUNT).training
                self.trained |= marks(clean)
            elif torch.is_grad_enabled() and given[0].requires_grad:
                self.searched |= marks(given[0])

        encoder.register_forward_pre_hook(look)

    def watch_triggers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for kind in (MaskedTrigger, AdditiveTrigger):
            monkeypatch.setattr(kind, "__call__", self._noting(kind.__call__))

    def _noting(self, apply: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
        def noting(trigger: Any, images: Tensor) -> Tensor:
            if self.detecting and len(images) == part_sizes(COUNT).judging:  # a choice among windows looks at fewer
                self.judged |= marks(images)
            return apply(trigger, images)

        return noting

    def during(self, detect: Callable[..., Detection]) -> Callable[..., Detection]:
        """``detect``, with triggers watched meanwhile."""

        def detecting(*given: Any, seed: int) -> Detection:
            self.detecting = True
            found = detect(*given, seed=seed)
            self.detecting = False
            return found

        return detecting


def always_backdoored(planted: Planted, seen: Seen) -> Choice[Detect]:
    """SSLDefender's detection in a few steps; whatever it finds, it says that it was the planted trigger."""
    method = DETECTION[0]
    trigger = RecoveredTrigger("patch", planted.trigger, 0.97, 0.03, "fraction of pixels")

    def apply(encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Detection:
        found = method.apply(encoder, images, config, run, seed=seed)
        return replace(
            found, verdict=Verdict.BACKDOORED, calibrated=True, triggers=(trigger,), pending_targets=1, reserve=()
        )

    watched = replace(method, apply=seen.during(apply), second=None)
    return Choice(watched, "default", method.config(**SHORT))


def test_nothing_that_judged_has_trained_over_a_whole_purification(monkeypatch: pytest.MonkeyPatch) -> None:
    planted, method, seen = planted_patch(), PURIFICATION[0], Seen()
    seen.watch(planted.encoder)
    seen.watch_triggers(monkeypatch)
    subject, detection = Subject(planted.encoder, marked_images(), 5), always_backdoored(planted, seen)
    purification = Choice(method, "default", method.config(steps=4, max_drift=2, min_agreement=0))
    findings = purify(subject, detection, purification, QuietRun())
    assert findings.unlearning is not None and findings.verification is not None
    parts = parts_of(COUNT, 5)
    assert seen.judged == set(parts.judging.tolist())
    assert seen.trained == set(parts.training.tolist())
    assert seen.searched <= seen.trained
