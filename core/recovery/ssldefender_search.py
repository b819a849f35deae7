"""What SSLDefender's detection searches for: its parameters, and one run of all its searches on an encoder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import Field

from core.config import MethodConfig
from core.image_parts import to_search
from core.passes import Passes, Workload
from core.recovery.blow_up import without_blow_ups
from core.recovery.decree import DecreeConfig
from core.recovery.forward import features_in_chunks
from core.recovery.growth import RESTARTS, half_of
from core.recovery.hypotheses import (
    OPAQUE_PATCH,
    AdditivePattern,
    Hypothesis,
    MaskedPattern,
    SpectralPattern,
    kind_key,
)
from core.recovery.nulls import remaining_gap
from core.recovery.opaque_windows import WindowSettings, search_windows, window_stages
from core.recovery.plain_squares import PLAIN_SQUARE, SquareSettings, search_squares, square_stage
from core.recovery.power import Effort
from core.recovery.preconditions import clean_similarity, look_plan
from core.recovery.search import Candidate, SearchSettings, search, search_passes
from core.recovery.towards_target import TargetBudget
from core.run import Run
from core.types import Encoder, Features, ImageSet

METHOD = "ssldefender"
CONTROL_RESTARTS = 2
MASK_STEPS, MASK_BATCH = 120, 48
"""Steps of the search for the smallest mask at most (30 to 110 were enough), and images of each."""
KNOWN = 1024
"""At most so many images say where clean features lie, and how long they are."""


class SSLDefenderConfig(MethodConfig):
    """Parameters of the recovery; the paper's symbol and value where it gives one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "thresholds": (0.25, 0.5, 0.75, 1.0),
            "steps": 500,
            "additive_steps": 500,
            "spectral_steps": 500,
            "batch_size": 256,
            "mi_weight": 0.1,
        },
        "quick": {
            "thresholds": (0.9995,) * 3,
            "steps": 60,
            "additive_steps": 30,
            "spectral_steps": 30,
            "batch_size": 24,
            "window_steps": 24,
            "square_images": 3,
            "square_stride": 1 / 12,
            "target_steps": 16,
        },
        "thorough": {
            "thresholds": (0.9995,) * 6,
            "steps": 240,
            "additive_steps": 120,
            "spectral_steps": 120,
            "window_steps": 90,
            "square_images": 12,
            "square_stride": 1 / 32,
        },
    }

    effort: ClassVar[dict[str, tuple[Effort, str]]] = {
        "thresholds": (Effort.AT_LEAST, "every search"),
        "batch_size": (Effort.AT_LEAST, "every search"),
        "steps": (Effort.AT_LEAST, "the search for masked patterns"),
        "additive_steps": (Effort.AT_LEAST, "the search for additive patterns"),
        "spectral_steps": (Effort.AT_LEAST, "the search for spectral patterns"),
        "window_steps": (Effort.AT_LEAST, "the search for opaque patches"),
        "square_images": (Effort.AT_LEAST, "the search for plain squares"),
        "square_stride": (Effort.AT_MOST, "the search for plain squares"),
        "target_steps": (Effort.FREE, "recovery towards a target"),
    }

    thresholds: tuple[float, ...] = Field(
        (0.9995,) * 4,
        min_length=1,
        max_length=32,
        description="eps_1..eps_n: a sub-model stops pushing once its similarity passes its threshold. One sub-model "
        "each. The paper draws n thresholds uniformly from [0, 1] and gives no n.",
    )
    steps: int = Field(
        120,
        ge=1,
        le=5000,
        description="Steps of the masked search (E). The paper: 500 in its settings, 50 in its timing.",
    )
    additive_steps: int = Field(60, ge=1, le=5000, description="Steps of the additive search, which settles sooner.")
    batch_size: int = Field(48, ge=2, le=4096, description="Clean images per step and sub-model (B). The paper: 256.")
    learning_rate: float = Field(
        0.1, gt=0, le=1, description="Adam's rate on the trigger itself. The paper gives none; DECREE starts at 0.5."
    )
    mi_weight: float = Field(
        0.0,
        ge=0,
        le=10,
        description="eta, weight of the mutual information of noise and trigger. The paper names no value; MESA: 0.1. "
        "0: each sub-model is one trigger, without noise.",
    )
    mi_cap: float = Field(2.0, gt=0, description="Largest mutual information that is rewarded, nats. Not in the paper.")
    mask_budget: float = Field(
        0.03,
        gt=0,
        le=0.25,
        description="Pixels a masked trigger may cover, as a fraction of the image. Not in the paper.",
    )
    amplitude: float = Field(
        12 / 255, gt=0, le=0.25, description="Largest additive change, on the [0, 1] scale. Not in the paper."
    )
    spectral_steps: int = Field(60, ge=1, le=5000, description="Steps of the spectral search. Not in the paper.")
    spectral_budget: float = Field(
        1.6,
        gt=0,
        le=16,
        description="Largest sum of wave amplitudes that a spectral trigger adds to a block of 32x32 pixels on the "
        "[0, 1] scale. CTRL's trigger: 1.6 (magnitude 100). Not in the paper.",
    )
    window_side: float = Field(
        0.19,
        gt=0,
        le=0.5,
        description="Side of an opaque patch, relative to the image's shorter side. Not in the paper.",
    )
    window_steps: int = Field(
        45, ge=2, le=3000, description="Steps of the opaque-patch search, a third of them on the whole grid of windows."
    )
    square_side: float = Field(
        0.375,
        gt=0,
        le=0.5,
        description="Largest side of a plain square, relative to the image's shorter side. Not in the paper.",
    )
    square_stride: float = Field(
        0.0625,
        gt=0,
        le=0.5,
        description="How far apart plain squares are tried, relative to the image's shorter side. Not in the paper.",
    )
    square_images: int = Field(6, ge=2, le=256, description="Images that each plain square of the grid is judged on.")
    target_steps: int = Field(
        40, ge=1, le=1000, description="Steps of each recovery towards the target embedding. Not in the paper."
    )


def stage_plan(config: SSLDefenderConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes; what comes before and after the searches is counted with the last of them."""
    held, kept = load.parts.judging, load.parts.training
    plan = {
        f"recover {hypothesis.name}": search_passes(search_settings(config, steps), kept, held)
        for hypothesis, steps in searched_hypotheses(config)
    }
    opaque = window_stages(window_settings(config), load, held) | square_stage(square_settings(config), load, held)
    half = search_passes(_half_settings(config), kept, held)
    looks = Passes(forward=held + min(KNOWN, kept + held) + held)
    return look_plan(load) | plan | opaque | {f"recover {half_of(pattern_of(config)).name}": half + looks}


@dataclass(frozen=True)
class Searched:
    """What searches of one encoder ended with.

    ``found`` has the candidates of each kind of trigger, best first; ``floor`` is the pairwise similarity of held-back
    clean images, ``clean`` the features ``[M, D]`` of at most ``KNOWN`` clean images.
    """

    found: list[list[Candidate]]
    floor: float
    clean: Features

    @property
    def sound(self) -> list[Candidate]:
        """The best of each kind that does not blow features up; of a kind that found no such trigger none."""
        return [top for kind in self.found for top in without_blow_ups(kind, self.clean)[:1]]

    @property
    def scores(self) -> dict[str, float]:
        """x (``nulls``) of each kind's best sound trigger, by the kind's key."""
        return {top.hypothesis.key: remaining_gap(top.score, self.floor) for top in self.sound}


@dataclass(frozen=True)
class SearchedAll(Searched):
    """The same after all kinds were searched for; ``half`` is the best additive pattern of half the strength."""

    half: Candidate

    @property
    def additive(self) -> list[Candidate]:
        """Of the additive pattern at full strength."""
        return next(kind for kind in self.found if isinstance(kind[0].hypothesis, AdditivePattern))


def search_all(network: Encoder, images: ImageSet, config: SSLDefenderConfig, run: Run, *, seed: int) -> SearchedAll:
    """Search the frozen ``network`` for all kinds of trigger.

    Raises:
        AuditFailed: the encoder's features are not finite on triggered images.
    """
    search_images, held_back = to_search(images, network.device, seed)
    found = search_kinds(network, images, config, run, seed=seed)
    settings = _half_settings(config)
    half = search(network, search_images, held_back, half_of(pattern_of(config)), settings, run, seed=seed)[0]
    return SearchedAll(found.found, found.floor, found.clean, half)


def search_kinds(
    network: Encoder,
    images: ImageSet,
    config: SSLDefenderConfig,
    run: Run,
    *,
    seed: int,
    kinds: Collection[str] | None = None,
) -> Searched:
    """Search the frozen ``network`` for the kinds of trigger with these keys; by default for all.

    Raises:
        AuditFailed: the encoder's features are not finite on triggered images.
    """
    search_images, held_back = to_search(images, network.device, seed)

    def wanted(key: str) -> bool:
        return kinds is None or key in kinds

    found = [
        search(network, search_images, held_back, hypothesis, search_settings(config, steps), run, seed=seed)
        for hypothesis, steps in searched_hypotheses(config)
        if wanted(hypothesis.key)
    ]
    if wanted(kind_key(OPAQUE_PATCH, config.window_side)):
        found.append(search_windows(network, search_images, held_back, window_settings(config), run, seed=seed))
    if wanted(kind_key(PLAIN_SQUARE, config.square_side)):
        found.append(search_squares(network, search_images, held_back, square_settings(config), run))
    clean = features_in_chunks(network, torch.cat([held_back, search_images[: KNOWN - len(held_back)]]))
    return Searched(found, clean_similarity(network, held_back), clean)


def searched_hypotheses(config: SSLDefenderConfig) -> tuple[tuple[Hypothesis, int], ...]:
    """The kinds of trigger that generators are trained for, each with its steps."""
    return (
        (MaskedPattern(config.mask_budget), config.steps),
        (pattern_of(config), config.additive_steps),
        (SpectralPattern(config.spectral_budget), config.spectral_steps),
    )


def search_settings(config: SSLDefenderConfig, steps: int) -> SearchSettings:
    """What a search of so many ``steps`` needs to know."""
    return SearchSettings(
        steps, config.batch_size, config.learning_rate, config.thresholds, config.mi_weight, config.mi_cap
    )


def control_settings(config: SSLDefenderConfig, steps: int) -> SearchSettings:
    """The same for a search that is kept away from what was found: fewer restarts, which end alike."""
    settings = search_settings(config, steps)
    return replace(settings, thresholds=settings.thresholds[:CONTROL_RESTARTS])


def mask_settings(images: int) -> DecreeConfig:
    """DECREE's parameters for so many ``images``; its loop counts in passes over them."""
    per_epoch = -(-images // MASK_BATCH)
    return DecreeConfig(batch_size=MASK_BATCH, max_epochs=max(1, MASK_STEPS // per_epoch))


def pattern_of(config: SSLDefenderConfig) -> AdditivePattern:
    """The additive pattern at full strength."""
    return AdditivePattern(config.amplitude)


def _half_settings(config: SSLDefenderConfig) -> SearchSettings:
    return replace(search_settings(config, config.additive_steps), thresholds=config.thresholds[-RESTARTS:])


def window_settings(config: SSLDefenderConfig) -> WindowSettings:
    """A third of the steps on the whole grid, the rest on its best windows."""
    scan = max(1, config.window_steps // 3)
    return WindowSettings(config.window_side, scan, 6, 10, config.window_steps - scan, 16)


def square_settings(config: SSLDefenderConfig) -> SquareSettings:
    return SquareSettings(config.square_side, config.square_stride, config.square_images)


def target_budget(config: SSLDefenderConfig) -> TargetBudget:
    """How long to recover towards a target embedding."""
    return TargetBudget(config.target_steps)
