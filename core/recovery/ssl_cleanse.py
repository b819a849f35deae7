"""SSL-Cleanse's detector: one cluster that a small mask reaches, among clusters that need large ones (Zheng et al.).

Clean features are grouped by k-means; for each cluster the smallest mask is searched that sends images of the others
there (``cluster_inversion``), as Neural Cleanse does for labels. What decides is the anomaly index of the smallest
mask's L1 norm: its distance below the median in units of 1.4826 MAD.

Symbols: K -> ``clusters``; lambda -> ``weight``; the norm is mean(m).

Deviations from the official code:
* The anomaly index is scaled once by 1.4826. Officially it is also divided by .6745, the same factor a second time,
  which makes every index 1.48 times too small.
* Success is counted on the images of the steps since the last look, not on further images; a look comes every few
  steps, not once an epoch. The norm and the saved mask belong together.
* Features have length 1 and the loss is 1 - cosine to the cluster's centre: attacks on encoders control directions.
* K is a parameter; officially it is read off the curve of k-means costs.
* All clusters' masks are searched at once, and every suspicious one is returned; officially the last cluster's is.
* The official threshold of 2 flags clean encoders (docs/methods/ssl-cleanse.md), so the default is higher and the
  published one is a preset.
* A cluster that no mask reached counts as a mask of the whole image, as officially; if that is most of them, or the
  deviation is 0, there is no verdict.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from core.config import MethodConfig
from core.image_parts import to_search
from core.ops.cosine import mean_direction, pairwise_similarity, unit
from core.ops.kmeans import assign, kmeans
from core.ops.outliers import anomaly_indices
from core.passes import Passes, Workload
from core.random import derive_seed
from core.recovery.cluster_inversion import Inversions, InversionSettings, invert
from core.recovery.detection import Detection, HypothesisResult, RecoveredTrigger
from core.recovery.forward import features_in_chunks, frozen
from core.recovery.power import Effort
from core.recovery.preconditions import clean_similarity, look_plan, unmet_preconditions
from core.run import Run
from core.types import Encoder, Images, ImageSet, Verdict

METHOD = "ssl-cleanse"
STAGE = "invert clusters"
HYPOTHESIS = "smallest mask to one cluster"
SETTLES_FROM = 0.3
"""Share of the longest search after which the shortest ends."""
KEY = "ssl-cleanse-mask"
UNTESTED = (
    "Backdoors planted by poisoning the pre-training data: they act weakly.",
    "Triggers that a mask cannot hold, and backdoors that lead to several clusters, which do not stand out.",
)
_FEWEST = 4
"""Clusters below which a median and a deviation from it say nothing."""


class SslCleanseConfig(MethodConfig):
    """Parameters of the detector; the official code's value where it has one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "official": {
            "steps": 16000,
            "batch_size": 32,
            "look_every": 16,
            "patience": 5,
            "weight_factor": 1.5,
            "stop_patience": 1000,
            "threshold": 2.0,
            "doubtful": 2.0,
        }
    }

    effort: ClassVar[dict[str, tuple[Effort, str]]] = {
        "steps": (Effort.AT_LEAST, "the search for masks"),
        "batch_size": (Effort.AT_LEAST, "the search for masks"),
        "patience": (Effort.FREE, "the search for masks"),
        "look_every": (Effort.FREE, "the search for masks"),
        "stop_patience": (Effort.AT_LEAST, "the search for masks"),
        "threshold": (Effort.AT_MOST, "the verdict"),
        "doubtful": (Effort.AT_MOST, "the verdict"),
    }

    clusters: int = Field(
        10, ge=_FEWEST, le=256, description="K. Official: the knee of the k-means curve; 12 for ImageNet-100."
    )
    steps: int = Field(
        240, ge=1, le=100000, description="Steps of all clusters together. Official: 1000 epochs, 16000 of 500 images."
    )
    batch_size: int = Field(16, ge=1, le=1024, description="Images per step and cluster. Official: 32.")
    look_every: int = Field(
        4, ge=1, le=10000, description="Steps between two looks at the success rates. Official: an epoch."
    )
    learning_rate: float = Field(0.1, gt=0, le=10, description="Adam's rate. Official: 0.1.")
    success: float = Field(0.99, gt=0, le=1, description="Share of images that must reach the cluster. Official: 0.99.")
    weight_start: float = Field(0.1, gt=0, description="lambda after the first success; before, 0. Official: 0.1.")
    weight_factor: float = Field(2.0, gt=1, description="By which lambda is raised and lowered. Official: 1.5.")
    patience: int = Field(2, ge=1, description="Looks in a row before lambda is changed. Official: 5.")
    stop_patience: int = Field(
        10, ge=1, description="Looks without a smaller mask before a cluster's search stops. Official: off, or 10."
    )
    threshold: float = Field(
        2.5,
        gt=0,
        description="Anomaly index from which on an encoder is backdoored. Official: 2, which a clean one reached.",
    )
    doubtful: float = Field(1.5, gt=0, description="Anomaly index from which on the answer is at best inconclusive.")


def stage_plan(config: SslCleanseConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes, if no cluster's search ends before its last step."""
    images, held = load.parts.training, load.parts.judging
    clusters = min(config.clusters, max(1, images // 4))
    return look_plan(load) | {STAGE: Passes(images + held, config.steps * min(config.batch_size, images) * clusters)}


def detect(encoder: Encoder, images: ImageSet, config: SslCleanseConfig, run: Run, *, seed: int) -> Detection:
    """Search a mask to every cluster of ``images``; ``score`` is the largest anomaly index of a small mask."""
    network = frozen(encoder)
    search_images, held_back = to_search(images, network.device, seed)
    floor = clean_similarity(network, held_back)
    unmet = unmet_preconditions(network, images, run)
    if unmet:
        return _no_verdict(unmet, floor)
    labels, centres = _clusters(features_in_chunks(network, search_images), config.clusters, seed)
    if len(centres) < _FEWEST:
        return _no_verdict((f"The images form only {len(centres)} clusters, too few to compare.",), floor)
    settings = InversionSettings(**{field.name: getattr(config, field.name) for field in fields(InversionSettings)})
    found = invert(network, search_images, labels, centres, settings, run, STAGE, seed=seed)
    return _conclude(network, held_back, found, config, floor)


def _clusters(features: Tensor, count: int, seed: int, starts: int = 10) -> tuple[Tensor, Tensor]:
    """The cluster ``[N]`` of each image and the clusters' unit centres ``[K, D]``: the best of several k-means."""
    points = unit(features)
    count = min(count, len(points) // 4)
    tried = []
    for start in range(starts):
        centroids = kmeans(points, count, iterations=20, seed=derive_seed(seed, METHOD, start))
        labels, distances = assign(points, centroids)
        tried.append((float(distances.square().sum()), start, labels))
    labels = min(tried, key=lambda one: one[:2])[2]
    members = [labels == cluster for cluster in labels.unique().tolist()]
    centres = torch.stack([mean_direction(points[mine]) for mine in members])
    return torch.stack(members).int().argmax(0), centres


def _conclude(
    encoder: Encoder, held_back: Images, found: Inversions, config: SslCleanseConfig, floor: float
) -> Detection:
    norms = found.best_norm.cpu()
    reached = norms.isfinite()
    if 2 * int(reached.sum()) <= len(norms):
        reason = f"Only {int(reached.sum())} of {len(norms)} clusters were reached by a mask within the budget."
        return _no_verdict((reason,), floor, config.threshold)
    indices = anomaly_indices(torch.where(reached, norms, 1.0))
    if not bool(indices.isfinite().all()):
        return _no_verdict(("Most clusters need masks of the same size, to the last digit.",), floor, config.threshold)
    score, cluster = float(indices.max()), int(indices.argmax())
    doubtful = min(config.doubtful, config.threshold)
    suspicious = [k for k in indices.argsort(descending=True).tolist() if float(indices[k]) >= doubtful]
    verdict = Verdict.INCONCLUSIVE if suspicious else Verdict.CLEAN
    if score >= config.threshold:
        verdict = Verdict.BACKDOORED
    reason = (
        f"The smallest mask that reaches a cluster covers {float(norms[cluster]):.1%} of the image, where the median "
        f"is {float(torch.where(reached, norms, 1.0).double().quantile(0.5)):.1%}: an anomaly index of {score:.2f} "
        f"(backdoor: from {config.threshold:.2f})."
    )
    return Detection(
        METHOD,
        verdict,
        score,
        config.threshold,
        (reason,),
        (HypothesisResult(HYPOTHESIS, score, config.threshold, tuple(indices.tolist()), key=KEY),),
        tuple(_recovered(encoder, held_back, found, k) for k in suspicious if math.isfinite(float(norms[k]))),
        floor,
        UNTESTED,
    )


def _recovered(encoder: Encoder, held_back: Images, found: Inversions, cluster: int) -> RecoveredTrigger:
    trigger = found.trigger(cluster)
    similarity = float(pairwise_similarity(features_in_chunks(encoder, trigger(held_back))))
    return RecoveredTrigger(HYPOTHESIS, trigger, similarity, trigger.area(), "fraction of pixels", key=KEY)


def _no_verdict(reasons: tuple[str, ...], floor: float, threshold: float | None = None) -> Detection:
    verdict = Verdict.INCONCLUSIVE
    return Detection(METHOD, verdict, None, threshold, reasons, clean_similarity=floor, untested=UNTESTED)
