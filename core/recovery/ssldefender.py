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
* Five hypotheses run side by side (masked, additive and spectral pattern, opaque patch, plain square): one kind misses
  the other.
* The n sub-models are restarts with equal thresholds close to 1; thresholds spread over [0, 1] (preset ``paper``) are
  inactive below the similarity that clean images have anyway.
* The verdict: similarities are held against those of clean encoders of the same family (``nulls``, ``bands``), and the
  additive pattern's against what half its strength does on the suspect (``growth``).
* The target embedding, and triggers recovered *towards* it, are ours (``towards_target``, ``patch_dictionary``): they
  are what unlearning needs where the true trigger is an opaque patch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from core.errors import AuditFailed
from core.image_parts import to_search
from core.ops.cosine import mean_direction
from core.passes import Passes, Workload
from core.recovery.blow_up import is_blown_up, judge_without_blow_ups
from core.recovery.detection import Detection, HypothesisResult, RecoveredTrigger, top_k_per_target
from core.recovery.forward import features_in_chunks, frozen
from core.recovery.growth import growth, growth_key, growth_row
from core.recovery.hypotheses import AdditivePattern
from core.recovery.nulls import remaining_gap
from core.recovery.preconditions import clean_similarity, unmet_preconditions, why_too_dull
from core.recovery.search import Candidate
from core.recovery.ssldefender_search import (
    METHOD,
    SearchedAll,
    SSLDefenderConfig,
    pattern_of,
    search_all,
    search_kinds,
    target_budget,
)
from core.recovery.towards_target import recover_towards, target_stages
from core.recovery.verdict import ALARM, ASKED, DOUBT, RIGHT_BASIN, compared
from core.recovery.yardstick import Yardstick, yardstick_for
from core.run import Run
from core.types import Encoder, ImageSet, Verdict

UNTESTED = (
    "Backdoors planted by poisoning the pre-training data: they act weakly, and this search does not see most of them.",
    "Triggers that change from image to image, or that move objects instead of painting pixels.",
    "Triggers larger than the bounds that were searched.",
)


def expansion_plan(config: SSLDefenderConfig, targets: int, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes of :func:`expand_triggers` for so many ``targets``."""
    plans = (target_stages(target_budget(config), number, load) for number in range(targets))
    return {name: passes for plan in plans for name, passes in plan.items()}


def detect(encoder: Encoder, images: ImageSet, config: SSLDefenderConfig, run: Run, *, seed: int) -> Detection:
    """Look for a backdoor in ``encoder`` with unlabelled clean ``images``. Its triggers are those that the search ended
    in; :func:`expand_triggers` finds more that lead to the same targets.

    Raises:
        AuditFailed: the encoder's features are not finite on triggered images.
    """
    network = frozen(encoder)
    unmet = unmet_preconditions(network, images, run)
    if unmet:
        _, held_back = to_search(images, network.device, seed)
        floor = clean_similarity(network, held_back)
        return Detection(METHOD, Verdict.INCONCLUSIVE, None, None, unmet, clean_similarity=floor, untested=UNTESTED)

    searched = search_all(network, images, config, run, seed=seed)
    yardstick = yardstick_for(encoder, config)
    results = _rows(searched, yardstick, config)
    judged = judge_without_blow_ups(results, searched.found, searched.clean)

    stranger = (*_why_a_stranger(searched, yardstick), *why_too_dull(images))
    if stranger and judged.verdict is Verdict.BACKDOORED:
        judged = replace(judged, verdict=Verdict.INCONCLUSIVE)

    clean = judged.verdict is Verdict.CLEAN
    best = max(candidates[0].score for candidates in searched.found)
    kinds = [searched.additive] if judged.only and not clean else searched.found
    least = 1 - RIGHT_BASIN * (1 - best) if clean else judged.follow_from
    groups = _by_target([c for kind in kinds for c in kind if c.score >= least])
    triggers = top_k_per_target([_recovered(c, number) for number, group in enumerate(groups) for c in group])
    close = any(
        remaining_gap(top.score, searched.floor) >= yardstick.null(top.hypothesis.key).limit(ASKED)
        for top in searched.sound
    )
    return Detection(
        METHOD,
        judged.verdict,
        judged.score,
        judged.threshold,
        (*judged.reasons, *stranger, *(caveat.sentence for caveat in yardstick.caveats)),
        results,
        () if clean else triggers,
        searched.floor,
        UNTESTED,
        calibrated=not yardstick.caveats,
        pending_targets=0 if clean else len(groups),
        reserve=triggers if clean and close else (),
        blown_up=judged.blown_up,
        stranger=bool(stranger),
        caveats=yardstick.caveats,
    )


def expand_triggers(
    encoder: Encoder, images: ImageSet, config: SSLDefenderConfig, found: Detection, run: Run, *, seed: int
) -> Detection:
    """``found`` with, behind each target's triggers, the others that a recovery towards this target comes to."""
    network = frozen(encoder)
    search_images, held_back = to_search(images, network.device, seed)
    triggers: list[RecoveredTrigger] = []
    for number in range(found.pending_targets):
        group = [recovered for recovered in found.triggers if recovered.target == number]
        target = mean_direction(features_in_chunks(network, group[0].trigger(held_back)))
        budget = target_budget(config)
        towards = recover_towards(network, search_images, held_back, target, budget, run, number=number, seed=seed)
        triggers += [*group, *(_recovered(candidate, number) for candidate in towards)]
    return replace(found, triggers=top_k_per_target(triggers), pending_targets=0)


def clean_scores(
    encoder: Encoder, images: ImageSet, config: SSLDefenderConfig, run: Run, *, seed: int
) -> dict[str, float]:
    """What an encoder that is known to be clean scores: the kind's key -> x (``nulls``). For calibration.

    Triggers that blow features up do not count, here as in a verdict; a kind that found no others is missing.

    Raises:
        AuditFailed: nothing can be concluded from this encoder and these images, so nothing can be calibrated.
    """
    network = frozen(encoder)
    unmet = unmet_preconditions(network, images, run)
    if unmet:
        raise AuditFailed(
            "unsound",
            field="encoder",
            found=unmet[0].rstrip("."),
            expected="a clean encoder that tells images apart, and images that differ",
            action="Leave it out.",
        )
    searched = search_all(network, images, config, run, seed=seed)
    grown = growth(searched.additive[0].similarity, searched.half.similarity, searched.floor)
    return searched.scores if grown is None else searched.scores | {growth_key(pattern_of(config)): grown}


def kind_scores(
    encoder: Encoder, images: ImageSet, config: SSLDefenderConfig, kinds: Collection[str], run: Run, *, seed: int
) -> dict[str, float]:
    """What ``encoder`` scores in the ``kinds`` of trigger with these keys: the key -> x (``nulls``). A kind that found
    nothing but triggers that blow features up is missing; all are where nothing can be concluded from the encoder."""
    network = frozen(encoder)
    if unmet_preconditions(network, images, run):
        return {}
    return search_kinds(network, images, config, run, seed=seed, kinds=kinds).scores


def _why_a_stranger(searched: SearchedAll, yardstick: Yardstick) -> tuple[str, ...]:
    """The sentence of ``yardstick.why_a_stranger``; none where there is nothing to say."""
    top = searched.additive[0]
    pattern = top.hypothesis
    assert isinstance(pattern, AdditivePattern)
    why = yardstick.why_a_stranger(pattern, top.similarity, searched.half.similarity, searched.floor)
    return () if why is None else (why,)


def _rows(searched: SearchedAll, yardstick: Yardstick, config: SSLDefenderConfig) -> tuple[HypothesisResult, ...]:
    """Each kind of trigger against what clean encoders score, and the additive one against half of itself."""
    rows = []
    for kind in searched.found:
        hypothesis = kind[0].hypothesis
        row = compared(
            hypothesis.name,
            hypothesis.key,
            _scores(kind),
            searched.floor,
            yardstick.null(hypothesis.key),
            measured=yardstick.measures(hypothesis.key),
        )
        blown_up = tuple(c.score for c in kind if is_blown_up(c.features, searched.clean))
        whole = None if kind[0].location_adjusted is None else kind[0].similarity
        rows.append(replace(row, blown_up=blown_up, raw_similarity=whole))
    pattern = pattern_of(config)
    null = yardstick.growth(pattern)
    if null is not None:
        full, half = _scores(searched.additive), searched.half.similarity
        grown = growth_row(pattern, full, half, searched.floor, null, yardstick.most(pattern.key), ALARM, DOUBT)
        rows += [] if grown is None else [grown]
    return tuple(rows)


def _scores(candidates: Sequence[Candidate]) -> list[float]:
    return [candidate.score for candidate in candidates]


def _by_target(candidates: list[Candidate], apart: float = 0.8) -> list[list[Candidate]]:
    """The candidates grouped by the target embedding that they lead to, the most similar first; at most three."""
    groups: list[tuple[torch.Tensor, list[Candidate]]] = []
    for candidate in sorted(candidates, key=lambda c: -c.score):
        direction = mean_direction(candidate.features)
        home = next((group for group in groups if float(group[0] @ direction) >= apart), None)
        if home is not None:
            home[1].append(candidate)
        elif len(groups) < 3:
            groups.append((direction, [candidate]))
    return [members for _, members in groups]


def _recovered(candidate: Candidate, target: int) -> RecoveredTrigger:
    size, unit = candidate.hypothesis.size(candidate.trigger)
    kind = candidate.hypothesis
    return RecoveredTrigger(kind.name, candidate.trigger, candidate.similarity, size, unit, target, kind.key)
