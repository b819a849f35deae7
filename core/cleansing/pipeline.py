"""The cleansing pipeline that both methods share (PoisonCAM Sec. IV, Fig. 2; PatchSearch).

Features -> clusters -> for images of likely clusters a candidate window and its poison score -> candidates and verdict
-> poison classifier -> images to keep. The methods differ in the localiser: what makes an attention map of an image.

Deviations from the papers, each a parameter (preset ``paper``) where the paper's form can be asked for:
* A verdict: images are removed from a set only where several candidates show the same pixels (``verdict``); the papers
  remove from whatever set they get (``remove_always``).
* The window's final size is what the like candidates have in common (``extent``), not a number the user must know.
* Images that show the pixels of such a group are removed whatever the classifier says, and some of them are candidates
  that the search did not meet (``match_triggers``).
* The classifier's patches come from those groups (``groups_first``): one wrong patch costs hundreds of clean images.
* Images the search never scored count, for the choice of negatives, as their cluster's mean score. The papers rank them
  as 0, so that the "most poisoned tenth" is mostly a matter of chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from core.cleansing.candidates import JUDGED, judge_candidates
from core.cleansing.candidates import STAGE as JUDGE_STAGE
from core.cleansing.classifier_training import CLASSIFY_STAGE, TRAIN_STAGE
from core.cleansing.clustering import STAGE as CLUSTER_STAGE
from core.cleansing.clustering import Clustering, clusters_of, find_clusters, usual_clusters
from core.cleansing.config import CleansingConfig
from core.cleansing.examination import Examination
from core.cleansing.flip_test import FlipTest
from core.cleansing.forward import COMPARED, SAME_CLUSTER, Reader, agreement_of_halves, read_features
from core.cleansing.forward import STAGE as FEATURE_STAGE
from core.cleansing.joining import OF_A_TRIGGER, join_matching
from core.cleansing.joining import STAGE as JOIN_STAGE
from core.cleansing.matching import STAGE as MATCH_STAGE
from core.cleansing.matching import find_matches
from core.cleansing.removal import Removal, choose_removal, suspicion_of
from core.cleansing.result import Candidate, Cleansing, ImageFindings
from core.cleansing.schedule import clusters_per_round
from core.cleansing.search import STAGE as SEARCH_STAGE
from core.cleansing.search import Localiser, SearchState, search
from core.cleansing.verdict import TOO_MANY, Judgement, judge, unmet_preconditions
from core.errors import UnsupportedInput
from core.passes import Passes, Workload
from core.run import Run
from core.types import Encoder, ImageSet, Verdict

SEARCH_WINDOW = 0.27
"""Side of the search's windows, relative to the image's shorter side: the paper's 60 of 224."""

LEAST_IMAGES = 100
"""Fewer images make no clusters to speak of."""

BuildLocaliser = Callable[[Reader, Clustering, int], Localiser]
"""From the encoder, its clusters and the window's side to a localiser."""


MORE_STAGES = (MATCH_STAGE, JOIN_STAGE, TRAIN_STAGE, CLASSIFY_STAGE)
"""Stages of a set in which a trigger was found."""


def shared_stage_plan(config: CleansingConfig, per_map: Passes, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes; ``per_map`` is what the localiser takes for an image. Where no image goes through
    the encoder (clustering, matching, the classifier) it is about as many as would take that time."""
    flips = min(config.flip_images, load.images)
    screened = config.first_flips + math.ceil(config.finalists * (flips - config.first_flips))
    per_image = per_map + Passes(forward=screened if 0 < config.first_flips < flips else flips)
    judged = per_map + Passes(forward=flips)
    clusters = min(load.images, config.clusters or usual_clusters(load.images))
    visits = sum(clusters_per_round(clusters, config.drop_fraction))
    scored = min(load.images, visits * config.samples_per_cluster)
    matching = {}
    if config.match_triggers:
        matching = {MATCH_STAGE: Passes(forward=0.1 * load.images), JOIN_STAGE: judged.times(OF_A_TRIGGER)}
    return {
        FEATURE_STAGE: Passes(forward=load.images),
        CLUSTER_STAGE: Passes(forward=0.25 * load.images + 2 * min(COMPARED, load.images)),
        SEARCH_STAGE: per_image.times(scored) + Passes(forward=flips),
        JUDGE_STAGE: judged.times(min(JUDGED, scored)),
        **matching,
        TRAIN_STAGE: Passes(training=config.classifier_steps * config.classifier_batch * config.classifiers),
        CLASSIFY_STAGE: Passes(forward=load.images * config.classifiers),
    }


def cleanse_with(
    method: str,
    build_localiser: BuildLocaliser,
    encoder: Encoder,
    images: ImageSet,
    config: CleansingConfig,
    run: Run,
    *,
    seed: int,
) -> Cleansing:
    """Find the poisoned images of ``images`` with ``encoder``, which was trained on them (or on images like them).

    Raises:
        UnsupportedInput: fewer than :data:`LEAST_IMAGES` images, or a network the localiser cannot look into.
        AuditFailed: features or losses that are not finite.
    """
    _require_enough(images)
    reader = Reader(encoder, half=config.half_precision, batch_size=config.batch_size)
    features = read_features(reader, images, run)
    centroids = find_clusters(features, config.clusters, run, iterations=config.cluster_iterations, seed=seed)
    clustering = clusters_of(features, centroids)
    unmet = unmet_preconditions(images, features)
    notes = _check_precision(reader, images, clustering)
    del features

    side = min(images.pixels.shape[2:])
    window = min(config.window or round(SEARCH_WINDOW * side), side - 1)
    if unmet:
        return _without_search(method, images, clustering, window, unmet)
    localise = build_localiser(reader, clustering, window)
    flip_test = FlipTest(reader, clustering, images, config.flip_images, normalised=config.unit_queries, seed=seed)
    state = search(images, clustering, localise, flip_test, window, config, run, seed=seed)
    examine = Examination(images, localise, flip_test, config, run)
    judged = judge_candidates(state, images, examine, window, config)
    judgement = judge(judged.candidates, len(flip_test))
    removal = Removal.nothing(len(images))
    if judgement.verdict is Verdict.POISONED or config.remove_always:
        suspicion = suspicion_of(state, clustering, config)
        matches = None
        if config.match_triggers and judgement.triggers:
            templates = [judged.templates[number] for number in judgement.triggers]
            matches = find_matches(images, templates, run, device=reader.device)
            judged = join_matching(
                judged, judgement.triggers, matches, suspicion, clustering.labels.cpu(), examine, config
            )
        removal = choose_removal(
            judged, judgement, matches, suspicion, images, config, run, device=reader.device, seed=seed
        )
        judgement = _guard(judgement, removal.keep)
        if judgement.verdict is Verdict.INCONCLUSIVE and not config.remove_always:
            removal = replace(removal, keep=torch.ones_like(removal.keep), notes=())
    notes += removal.notes
    if judgement.verdict is not Verdict.POISONED and not bool(removal.keep.all()):
        notes += (f"Images were removed although the verdict is {judgement.verdict}: remove_always asks for it.",)
    return Cleansing(
        method=method,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        keep=removal.keep,
        findings=_findings(state, clustering, judged.candidates, removal, window),
        candidates=judged.candidates,
        rounds=tuple(state.rounds),
        distribution=removal.distribution,
        flip_images=len(flip_test),
        clusters=len(clustering),
        window=window,
        notes=notes,
    )


def _check_precision(reader: Reader, images: ImageSet, clustering: Clustering) -> tuple[str, ...]:
    """Leave bf16 where it moves images between clusters; says so."""
    if not reader.half:
        return ()
    agreement = agreement_of_halves(reader, images, clustering.centroids)
    if agreement >= SAME_CLUSTER:
        return (f"Encoder passes in bf16: {agreement:.1%} of a sample stay in their fp32 cluster.",)
    reader.half = False
    return (f"Encoder passes in fp32: in bf16 only {agreement:.1%} of a sample stay in their cluster.",)


def _findings(
    state: SearchState, clustering: Clustering, candidates: tuple[Candidate, ...], removal: Removal, window: int
) -> ImageFindings:
    """One row per image; the candidates' rows have their fitted windows and exact scores."""
    scores = state.scores.clone()
    sides = torch.where(scores.isnan(), -1, window)
    windows = torch.cat([state.places, sides[:, None]], 1)
    for candidate in candidates:
        at = candidate.window
        windows[candidate.index] = torch.tensor([at.top, at.left, at.side])
        scores[candidate.index] = candidate.score
    return ImageFindings(scores, windows, clustering.labels.cpu(), removal.probability, removal.match)


def _guard(judgement: Judgement, keep: Tensor) -> Judgement:
    share = 1 - float(keep.float().mean())
    if share <= TOO_MANY:
        return judgement
    reason = f"The poison classifier flags {share:.0%} of the images: it has learnt something else than a trigger."
    return Judgement(Verdict.INCONCLUSIVE, (*judgement.reasons, reason), judgement.triggers)


def _without_search(
    method: str, images: ImageSet, clustering: Clustering, window: int, reasons: tuple[str, ...]
) -> Cleansing:
    count = len(images)
    nothing = torch.full((count,), torch.nan)
    return Cleansing(
        method=method,
        verdict=Verdict.INCONCLUSIVE,
        reasons=reasons,
        keep=torch.ones(count, dtype=torch.bool),
        findings=ImageFindings(
            nothing, torch.full((count, 3), -1), clustering.labels.cpu(), nothing.clone(), nothing.clone()
        ),
        candidates=(),
        rounds=(),
        distribution=None,
        flip_images=0,
        clusters=len(clustering),
        window=window,
    )


def _require_enough(images: ImageSet) -> None:
    if len(images) < LEAST_IMAGES:
        raise UnsupportedInput(
            "too_few_images",
            field="images",
            found=f"{len(images)} images",
            expected=f"at least {LEAST_IMAGES} images",
            action="Give the whole training set: cleansing looks for what many of its images share.",
        )
