"""The classifiers that are put on an encoder's features to see what can be read off them, by name.

``linear`` and ``linear-1pct`` are logistic regressions (``core.training.linear_probe``) on all labels and on
several draws of a stratified few; ``mlp`` is BadEncoder's classifier and ``mlp-official`` the same at BadEncoder's own
training length; ``knn`` is the weighted nearest-neighbour vote. All of them see the same L2-normalised features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator
from torch import Tensor

from core.config import MethodConfig
from core.evaluation.few_labels import stratified
from core.evaluation.mlp_probe import OFFICIAL, MlpProbeConfig, fit_mlp_probe
from core.evaluation.neighbours import predict_by_neighbours
from core.run import Run, StageRun
from core.training.linear_probe import fit_linear_probe
from core.types import Features

ProbeName = Literal["linear", "linear-1pct", "mlp", "mlp-official", "knn"]


class EvaluateConfig(MethodConfig):
    """Parameters of an evaluation."""

    probes: tuple[ProbeName, ...] = Field(
        ("linear", "knn"), min_length=1, description="Classifiers to fit; the first one's numbers are the headline."
    )
    weight_decay: float = Field(
        1e-3,
        ge=0,
        description="L2 penalty on the linear probe's weights (not on its bias), with all labels. With n of N labels "
        "it is N/n times that, which is the same prior on the weights: the fewer labels, the more it must hold.",
    )
    few_labels_share: float = Field(
        0.01, gt=0, le=1, description="Share of each class's labels for linear-1pct, at least one. PatchSearch: 0.01."
    )
    few_labels_draws: int = Field(
        5, ge=1, le=100, description="Draws of those labels; what linear-1pct reports is their mean. Not in the papers."
    )
    neighbours: int = Field(200, ge=1, description="k of the kNN monitor. BadEncoder, DECREE, CTRL: 200.")
    temperature: float = Field(
        0.5, gt=0, description="tau of the kNN's weights exp(cos/tau). BadEncoder: 0.5; CTRL: 0.1."
    )
    mlp: MlpProbeConfig = Field(MlpProbeConfig(), description="The MLP probe's training.")

    @field_validator("probes")
    @classmethod
    def _each_once(cls, probes: tuple[ProbeName, ...]) -> tuple[ProbeName, ...]:
        return tuple(dict.fromkeys(probes))


@dataclass(frozen=True)
class FittedProbe:
    """``predict`` maps unit features ``[N, D]`` to classes ``[N]`` int64; ``labels_used`` were needed to fit it."""

    predict: Callable[[Features], Tensor]
    labels_used: int


def draws_of(name: ProbeName, config: EvaluateConfig) -> int:
    """How often probe ``name`` is fitted, each time on labels drawn anew."""
    return config.few_labels_draws if name == "linear-1pct" else 1


def fit_probe(
    name: ProbeName,
    features: Features,
    labels: Tensor,
    classes: int,
    config: EvaluateConfig,
    run: Run,
    *,
    seed: int,
    draw: int = 0,
) -> FittedProbe:
    """Fit probe ``name`` to unit ``features`` ``[N, D]`` and ``labels`` ``[N]`` on the same device.

    ``draw`` (below :func:`draws_of`) says which draw of few labels it is; other probes use all of them.

    Raises:
        AuditFailed: an MLP's loss became NaN or infinite.
    """
    if name == "knn":

        def vote(queries: Features) -> Tensor:
            return predict_by_neighbours(
                queries, features, labels, classes, neighbours=config.neighbours, temperature=config.temperature
            )

        return FittedProbe(vote, len(labels))
    if name in ("mlp", "mlp-official"):
        settings = config.mlp if name == "mlp" else OFFICIAL
        mlp = fit_mlp_probe(features, labels, classes, settings, StageRun(run, name), seed=seed)
        return FittedProbe(mlp.predict, len(labels))
    decay, used = config.weight_decay, len(labels)
    if name == "linear-1pct":
        chosen = stratified(labels, config.few_labels_share, seed, "few labels", draw).to(labels.device)
        decay, used = decay * len(labels) / len(chosen), len(chosen)
        features, labels = features[chosen], labels[chosen]
    return FittedProbe(fit_linear_probe(features, labels, classes, weight_decay=decay).predict, used)
