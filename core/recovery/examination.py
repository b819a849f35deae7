"""All searches of one encoder, the controls beside them, and what they amount to as evidence.

Three searches paint over a part of the image (a soft mask, an opaque window, a plain square), two change all of it a
little (an additive pattern, waves). Within each of these two groups the same search is done once more, kept away from
the direction that the group's best trigger leads to: how far can triggers of this size move images *elsewhere*? Nobody
planted that. A patch is tried at other places, too (``controls``). DECREE's smallest mask stands beside them.

Not in the SSLDefender paper, which searches for triggers and judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.decision.evidence import LEAST_GAP, Context, Evidence, Examination, effect_of
from core.image_parts import to_search
from core.ops.cosine import pairwise_similarity
from core.recovery import decree
from core.recovery.controls import FEW, colour_response, effect_elsewhere
from core.recovery.forward import features_in_chunks
from core.recovery.opaque_windows import search_windows
from core.recovery.plain_squares import search_squares
from core.recovery.preconditions import clean_similarity, contrast
from core.recovery.search import Candidate, away_from, search
from core.recovery.ssldefender_search import (
    SSLDefenderConfig,
    control_settings,
    mask_settings,
    search_settings,
    searched_hypotheses,
    square_settings,
    window_settings,
)
from core.run import Run
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, Images, ImageSet

MASKED, WINDOWS, SQUARES = "masked", "opaque-patch", "plain-square"
ADDITIVE, SPECTRAL, DECREE = "additive", "spectral", "decree"
GROUPS: tuple[tuple[str, ...], ...] = ((MASKED, WINDOWS, SQUARES), (ADDITIVE, SPECTRAL))
"""Searches whose triggers are alike enough to be one another's control."""
ANOTHER_TARGET, OTHER_PLACES = "another target", "other places"
"""The controls: the best trigger that leads elsewhere in feature space; the same patch elsewhere in the image."""
ANYWHERE = "masked-anywhere"
"""The masked search's evidence without the second control: of a patch that acts wherever it lies."""
SUCCESS = 0.99
"""The similarity that DECREE's mask has to reach."""
LEAST_RESPONSE = 0.01
"""An effect below which a ratio is noise."""


@dataclass(frozen=True)
class Examined:
    """``found`` has the candidates of each search by its name, best first. The best of a search may be weaker than its
    controls: ``examination`` says what it is worth."""

    found: Mapping[str, Sequence[Candidate]]
    examination: Examination


def examine(network: Encoder, images: ImageSet, config: SSLDefenderConfig, run: Run, *, seed: int) -> Examined:
    """Search the frozen ``network`` for every kind of trigger, and for the controls.

    Raises:
        AuditFailed: the encoder's features are not finite on triggered images.
    """
    search_images, held_back = to_search(images, network.device, seed)
    clean = features_in_chunks(network, held_back)
    floor = clean_similarity(network, held_back)
    kinds = dict(zip((MASKED, ADDITIVE, SPECTRAL), searched_hypotheses(config), strict=True))

    def free(kind: str) -> list[Candidate]:
        hypothesis, steps = kinds[kind]
        settings = search_settings(config, steps)
        return search(network, search_images, held_back, hypothesis, settings, run, seed=seed)

    def elsewhere(kind: str, best: Candidate) -> Candidate:
        hypothesis, steps = kinds[kind]
        settings = control_settings(config, steps)
        away = away_from(best.features, clean)
        return search(network, search_images, held_back, hypothesis, settings, run, seed=seed, elsewhere=away)[0]

    found = {MASKED: free(MASKED)}
    found[WINDOWS] = search_windows(network, search_images, held_back, window_settings(config), run, seed=seed)
    found[SQUARES] = search_squares(network, search_images, held_back, square_settings(config), run)
    controls = {MASKED: elsewhere(MASKED, _best(found))}
    whole = {ADDITIVE: free(ADDITIVE), SPECTRAL: free(SPECTRAL)}
    controls[ADDITIVE] = elsewhere(ADDITIVE, _best(whole))
    found |= whole
    mask = decree.smallest_mask(network, search_images, mask_settings(len(search_images)), run, seed=seed)
    evidence = _evidence(network, held_back, found, controls, floor)
    smallest = Evidence(DECREE, SUCCESS, -math.log(max(LEAST_GAP, mask)))
    largest = square_settings(config).largest(*network.image_size)
    context = Context(
        family=network.architecture or "unknown",
        side=min(network.image_size),
        clean_similarity=floor,
        contrast=contrast(images),
        images=len(images),
        dose_response=_dose_response(network, held_back, found[ADDITIVE][0], floor),
        colour_response=colour_response(network, held_back[:FEW], largest, clean_similarity(network, held_back[:FEW])),
    )
    return Examined(found, Examination(context, (*evidence, smallest)))


def _best(found: Mapping[str, Sequence[Candidate]]) -> Candidate:
    return max((kind[0] for kind in found.values()), key=lambda candidate: candidate.similarity)


def _evidence(
    network: Encoder,
    held_back: Images,
    found: Mapping[str, Sequence[Candidate]],
    controls: Mapping[str, Candidate],
    floor: float,
) -> list[Evidence]:
    """Each search's best trigger beside its controls."""
    rows = []
    for group in GROUPS:
        (control,) = (controls[name] for name in group if name in controls)
        away = {ANOTHER_TARGET: effect_of(control.similarity, floor)}
        for name in group:
            best = found[name][0]
            kind, _, bound = best.hypothesis.key.rpartition("@")
            effect, beside = effect_of(best.similarity, floor), dict(away)
            if isinstance(best.trigger, MaskedTrigger):
                beside[OTHER_PLACES] = effect_elsewhere(network, held_back, best.trigger, floor)
            if name == MASKED:
                rows.append(Evidence(ANYWHERE, float(bound), effect, away))
            rows.append(Evidence(kind, float(bound), effect, beside))
    return rows


def _dose_response(network: Encoder, held_back: Images, best: Candidate, floor: float) -> float:
    """log2 of the effect of the ``best`` additive pattern over that of half of it."""
    assert isinstance(best.trigger, AdditiveTrigger)
    half = AdditiveTrigger(best.trigger.delta / 2)
    weak = effect_of(float(pairwise_similarity(features_in_chunks(network, half(held_back)))), floor)
    return math.log2(max(LEAST_RESPONSE, effect_of(best.similarity, floor)) / max(LEAST_RESPONSE, weak))
