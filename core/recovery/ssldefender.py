"""SSLDefender's trigger recovery and the verdict it leads to (Sec. IV-B, Algorithm 1; Mix of Eq. 1).

What it decides: whether some trigger *of bounded size* makes the features of all images alike. On a clean encoder the
best bounded trigger is a universal perturbation that leaves a clear gap to 1; on a backdoored one the search falls into
the backdoor, where the gap all but closes.

Symbols: E or F -> ``encoder``; D_shadow -> ``images``; G_i -> ``generators.TriggerGenerators``; T_i ->
``StatisticsNetworks``; eps_i -> ``thresholds``; eta -> ``mi_weight``; B -> ``batch_size``; Delta -> ``triggers``.

Deviations from the paper:
* Triggers are bounded (a mask's budget, an additive amplitude). Eq. 5 has no bound, and a full-image constant then
  makes any encoder's features alike, clean ones included.
* Similarity has the sign and the diagonal of ``ops.cosine``; the information term is capped (Eq. 5 is unbounded below).
* Four hypotheses run side by side (masked, additive and spectral pattern, opaque patch): one kind misses the other.
* The n sub-models are restarts with equal thresholds close to 1; thresholds spread over [0, 1] (preset ``paper``) are
  inactive below the similarity that clean images have anyway.
* The verdict: similarities are held against those of clean encoders of the same family (``nulls``, ``bands``), and the
  additive pattern's against what half its strength does on the suspect (``growth``).
* The target embedding, and triggers recovered *towards* it, are ours (``towards_target``, ``patch_dictionary``): they
  are what unlearning needs where the true trigger is an opaque patch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field

from core.config import MethodConfig
from core.errors import AuditFailed
from core.ops.cosine import mean_direction
from core.random import generator
from core.recovery.blow_up import judge_without_blow_ups
from core.recovery.detection import Detection, RecoveredTrigger, few_of_each
from core.recovery.forward import features_in_chunks, frozen
from core.recovery.growth import GROWTH, RESTARTS, growth, growth_row, half_of
from core.recovery.hypotheses import AdditivePattern, Hypothesis, MaskedPattern, SpectralPattern
from core.recovery.nulls import remaining_gap
from core.recovery.opaque_windows import WindowSettings, search_windows, window_stages
from core.recovery.search import Candidate, SearchSettings, search
from core.recovery.soundness import clean_similarity, why_unsound
from core.recovery.towards_target import TargetBudget, recover_towards, target_stages
from core.recovery.verdict import ALARM, ASKED, DOUBT, RIGHT_BASIN, compared
from core.recovery.yardstick import yardstick_for
from core.run import Run
from core.types import Encoder, Images, ImageSet, Verdict

METHOD = "ssldefender"
KNOWN = 1024
"""At most so many images say where clean features lie, and how long they are."""
UNTESTED = (
    "Backdoors planted by poisoning the pre-training data: they act weakly, and this search does not see most of them.",
    "Triggers that change from image to image, or that move objects instead of painting pixels.",
    "Triggers larger than the bounds that were searched.",
)


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
        "quick": {"steps": 60, "additive_steps": 40, "spectral_steps": 40, "thresholds": (0.9995, 0.9995, 0.9995)},
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
    target_steps: int = Field(
        40, ge=1, le=1000, description="Steps of each recovery towards the target embedding. Not in the paper."
    )


def stage_plan(config: SSLDefenderConfig) -> dict[str, float]:
    """Stage name -> encoder passes, which is what the time goes to."""
    each = 2.0 * config.batch_size * len(config.thresholds)
    plan = {f"recover {hypothesis.name}": steps * each for hypothesis, steps in _searches(config)}
    half = half_of(_pattern(config))
    passes = 2.0 * config.batch_size * config.additive_steps * len(_half_settings(config).thresholds)
    return plan | window_stages(_windows(config)) | {f"recover {half.name}": passes}


def follow_plan(config: SSLDefenderConfig, found: Detection) -> dict[str, float]:
    """The same for :func:`follow`, once it is known how many targets there are."""
    plans = (target_stages(_target_budget(config), number) for number in range(found.unfollowed))
    return {name: passes for plan in plans for name, passes in plan.items()}


def detect(encoder: Encoder, images: ImageSet, config: SSLDefenderConfig, run: Run, *, seed: int) -> Detection:
    """Look for a backdoor in ``encoder`` with unlabelled clean ``images``. Its triggers are those that the search ended
    in; :func:`follow` finds more that lead to the same targets.

    Raises:
        AuditFailed: the encoder's features are not finite on triggered images.
    """
    network = frozen(encoder)
    search_images, held_back = split(images, network, seed)
    unsound = why_unsound(network, images)
    floor = clean_similarity(network, held_back)
    if unsound:
        return Detection(METHOD, Verdict.INCONCLUSIVE, None, None, unsound, clean_similarity=floor, untested=UNTESTED)

    found, half = _search_all(network, search_images, held_back, config, run, seed=seed)
    yardstick = yardstick_for(encoder, config)
    results = [
        compared(
            candidates[0].hypothesis.name,
            [candidate.similarity for candidate in candidates],
            floor,
            yardstick.null(candidates[0].hypothesis.name),
        )
        for candidates in found
    ]
    null = yardstick.growth()
    if null is not None:
        full = [candidate.similarity for candidate in _additive(found)]
        row = growth_row(_pattern(config), full, half.similarity, floor, null, ALARM, DOUBT)
        results += [] if row is None else [row]
    known = torch.cat([held_back, search_images[: KNOWN - len(held_back)]])
    judged = judge_without_blow_ups(results, found, features_in_chunks(network, known))

    clean = judged.verdict is Verdict.CLEAN
    best = max(candidates[0].similarity for candidates in found)
    candidates = [c for kind in ([_additive(found)] if judged.only and not clean else found) for c in kind]
    least = 1 - RIGHT_BASIN * (1 - best) if clean else judged.follow_from
    groups = _by_target([c for c in candidates if c.similarity >= least])
    triggers = few_of_each([_recovered(c, number) for number, group in enumerate(groups) for c in group])
    close = any(
        remaining_gap(kind[0].similarity, floor) >= yardstick.null(kind[0].hypothesis.name).limit(ASKED)
        for kind in found
    )
    return Detection(
        METHOD,
        judged.verdict,
        judged.score,
        judged.threshold,
        (*judged.reasons, *yardstick.caveats),
        tuple(results),
        () if clean else triggers,
        floor,
        UNTESTED,
        calibrated=not yardstick.caveats,
        unfollowed=0 if clean else len(groups),
        reserve=triggers if clean and close else (),
        blown_up=judged.blown_up,
    )


def follow(
    encoder: Encoder, images: ImageSet, config: SSLDefenderConfig, found: Detection, run: Run, *, seed: int
) -> Detection:
    """``found`` with, behind each target's triggers, the others that a recovery towards this target comes to."""
    network = frozen(encoder)
    search_images, held_back = split(images, network, seed)
    triggers: list[RecoveredTrigger] = []
    for number in range(found.unfollowed):
        group = [recovered for recovered in found.triggers if recovered.target == number]
        target = mean_direction(features_in_chunks(network, group[0].trigger(held_back)))
        budget = _target_budget(config)
        towards = recover_towards(network, search_images, held_back, target, budget, run, number=number, seed=seed)
        triggers += [*group, *(_recovered(candidate, number) for candidate in towards)]
    return replace(found, triggers=few_of_each(triggers), unfollowed=0)


def clean_scores(
    encoder: Encoder, images: ImageSet, config: SSLDefenderConfig, run: Run, *, seed: int
) -> dict[str, float]:
    """What an encoder that is known to be clean scores: hypothesis' name -> x (``nulls``). For calibration.

    Raises:
        AuditFailed: nothing can be concluded from this encoder and these images, so nothing can be calibrated.
    """
    network = frozen(encoder)
    unsound = why_unsound(network, images)
    if unsound:
        raise AuditFailed(
            "unsound",
            field="encoder",
            found=unsound[0].rstrip("."),
            expected="a clean encoder that tells images apart, and images that differ",
            action="Leave it out.",
        )
    search_images, held_back = split(images, network, seed)
    floor = clean_similarity(network, held_back)
    found, half = _search_all(network, search_images, held_back, config, run, seed=seed)
    scores = {best[0].hypothesis.name: remaining_gap(best[0].similarity, floor) for best in found}
    grown = growth(_additive(found)[0].similarity, half.similarity, floor)
    return scores if grown is None else scores | {GROWTH: grown}


def _search_all(
    network: Encoder, search_images: Images, held_back: Images, config: SSLDefenderConfig, run: Run, *, seed: int
) -> tuple[list[list[Candidate]], Candidate]:
    """The candidates of each kind of trigger, best first; and the best additive pattern of half the strength."""

    def look(hypothesis: Hypothesis, settings: SearchSettings) -> list[Candidate]:
        return search(network, search_images, held_back, hypothesis, settings, run, seed=seed)

    found = [look(hypothesis, _settings(config, steps)) for hypothesis, steps in _searches(config)]
    found.append(search_windows(network, search_images, held_back, _windows(config), run, seed=seed))
    return found, look(half_of(_pattern(config)), _half_settings(config))[0]


def _additive(found: list[list[Candidate]]) -> list[Candidate]:
    return next(candidates for candidates in found if isinstance(candidates[0].hypothesis, AdditivePattern))


def split(images: ImageSet, encoder: Encoder, seed: int) -> tuple[Images, Images]:
    """Three quarters of ``images`` to search on; of the rest at most 256 to judge on. On the encoder's device."""
    order = torch.randperm(len(images), generator=generator(seed, METHOD, "split"))
    held_back = max(8, len(images) // 4)
    everything = images.batch(order, encoder.device)
    return everything[held_back:], everything[: min(held_back, 256)]


def _searches(config: SSLDefenderConfig) -> tuple[tuple[Hypothesis, int], ...]:
    """The kinds of trigger that generators are trained for, each with its steps."""
    return (
        (MaskedPattern(config.mask_budget), config.steps),
        (_pattern(config), config.additive_steps),
        (SpectralPattern(config.spectral_budget), config.spectral_steps),
    )


def _settings(config: SSLDefenderConfig, steps: int) -> SearchSettings:
    return SearchSettings(
        steps, config.batch_size, config.learning_rate, config.thresholds, config.mi_weight, config.mi_cap
    )


def _pattern(config: SSLDefenderConfig) -> AdditivePattern:
    return AdditivePattern(config.amplitude)


def _half_settings(config: SSLDefenderConfig) -> SearchSettings:
    return replace(_settings(config, config.additive_steps), thresholds=config.thresholds[-RESTARTS:])


def _windows(config: SSLDefenderConfig) -> WindowSettings:
    """A third of the steps on the whole grid, the rest on its best windows."""
    scan = max(1, config.window_steps // 3)
    return WindowSettings(config.window_side, scan, 6, 10, config.window_steps - scan, 16)


def _target_budget(config: SSLDefenderConfig) -> TargetBudget:
    return TargetBudget(config.target_steps)


def _by_target(candidates: list[Candidate], apart: float = 0.8) -> list[list[Candidate]]:
    """The candidates grouped by the target embedding that they lead to, the most similar first; at most three."""
    groups: list[tuple[torch.Tensor, list[Candidate]]] = []
    for candidate in sorted(candidates, key=lambda c: -c.similarity):
        direction = mean_direction(candidate.features)
        home = next((group for group in groups if float(group[0] @ direction) >= apart), None)
        if home is not None:
            home[1].append(candidate)
        elif len(groups) < 3:
            groups.append((direction, [candidate]))
    return [members for _, members in groups]


def _recovered(candidate: Candidate, target: int) -> RecoveredTrigger:
    size, unit = candidate.hypothesis.size(candidate.trigger)
    return RecoveredTrigger(candidate.hypothesis.name, candidate.trigger, candidate.similarity, size, unit, target)
