"""Threat models: an encoder trained on a suspect set so that the set can be judged by what was learnt from it.

Cleansing asks an encoder which patches act, and so needs one that was trained on the very images. Where the user has
none, one is trained here. It need not be a good encoder: the papers' threat models of 60 to 100 of 200 epochs obey a
trigger as much as fully trained ones (SSL-Backdoor, Table III; PoisonCAM, Sec. VI-H, trains shorter ones as well).

Deviation: views keep their colours (docs/methods/poisoncam.md). Changes of colour make an encoder look for shapes, and
a patch is learnt late; without them what many images share pixel by pixel is what is learnt first.

The trainers are ``simclr`` and ``moco``, which need none of the lab's packages: an audit trains, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from core.config import MethodConfig
from core.encoders.card import EncoderCard
from core.encoders.stems import SMALL_IMAGE, training_card
from core.passes import Passes, Workload
from core.run import Run
from core.training.config import Probability, TrainingConfig
from core.training.moco import Moco, MocoConfig
from core.training.objective import ObjectiveFactory
from core.training.pretrain import STAGE, Pretraining, planned_steps, pretrain
from core.training.simclr import Simclr, SimclrConfig
from core.types import Encoder, ImageSet

SMALLEST_SIDE, LARGEST_SIDE = 32, 224
"""Sides in pixels that an image size taken from the set is held between."""


class ThreatNetwork(MethodConfig):
    """The network that is trained, whichever the trainer."""

    architecture: str = Field("torchvision/resnet18", description="torchvision/<name> or timm/<name>.")
    image_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Side in pixels at which images are read. null: the shorter side of most images, 32 to 224.",
    )
    stem: Literal["auto", "small", "fast", "standard"] = Field(
        "auto",
        description="First layers: small (3x3, no pooling), fast (3x3 with stride 2; a quarter to a sixteenth of the "
        "cost) or standard. auto: fast up to 96 pixels, standard beyond.",
    )


class ThreatTraining(TrainingConfig):
    """What is common to all trainings of threat models."""

    epochs: float = Field(10, gt=0, description="Passes over the images. The papers: 60 to 200.")
    least_steps: int = Field(
        800,
        ge=0,
        description="A small set is passed over more often than that, until these are the steps. 0: it is not.",
    )
    jitter_probability: Probability = Field(0.0, ge=0, le=1, description="How often colours are jittered. Papers: 0.8.")
    grey_probability: Probability = Field(0.0, ge=0, le=1, description="How often a view is grey. The papers: 0.2.")


_QUICK: Mapping[str, Any] = {"epochs": 5, "least_steps": 400}
_PAPERS_VIEWS: Mapping[str, Any] = {"epochs": 200, "least_steps": 0, "jitter_probability": 0.8, "grey_probability": 0.2}


class SimclrThreatConfig(ThreatNetwork, ThreatTraining, SimclrConfig):
    """Parameters of a threat model by SimCLR."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"quick": _QUICK, "paper": {**SimclrConfig.presets["224px"], **_PAPERS_VIEWS}}
    )


class MocoThreatConfig(ThreatNetwork, ThreatTraining, MocoConfig):
    """Parameters of a threat model by MoCo v2, which is the papers'."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"quick": _QUICK, "paper": {**MocoConfig.presets["ssl-backdoor"], **_PAPERS_VIEWS}}
    )


def threat_card(config: ThreatNetwork, usual_size: tuple[int, int]) -> EncoderCard:
    """The card of the network to train; ``usual_size`` is the (height, width) of most images of the set.

    Raises:
        UsageError: an architecture that cannot be, or has not the stem that was asked for.
    """
    side = config.image_size or min(max(min(usual_size), SMALLEST_SIDE), LARGEST_SIDE)
    stem = config.stem
    if stem == "auto":
        stem = "fast" if side <= SMALL_IMAGE and config.architecture.startswith("torchvision/resnet") else "standard"
    return training_card(config.architecture, side, stem=stem)


def train_simclr(encoder: Encoder, images: ImageSet, config: SimclrThreatConfig, run: Run, *, seed: int) -> Pretraining:
    """Train a copy of the fresh ``encoder`` on ``images`` by SimCLR; exact resume as in ``pretrain``.

    Raises:
        AuditFailed: the loss became NaN or infinite.
    """
    return _train(encoder, images, Simclr, config, run, seed=seed)


def train_moco(encoder: Encoder, images: ImageSet, config: MocoThreatConfig, run: Run, *, seed: int) -> Pretraining:
    """The same by MoCo v2."""
    return _train(encoder, images, Moco, config, run, seed=seed)


def simclr_plan(config: SimclrThreatConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes: both views of each image learn."""
    return {STAGE: Passes(training=2 * _images_seen(config, load))}


def moco_plan(config: MocoThreatConfig, load: Workload) -> dict[str, Passes]:
    """The same: the query learns, the key is looked at."""
    seen = _images_seen(config, load)
    return {STAGE: Passes(forward=seen, training=seen)}


def fitted(config: ThreatTraining, images: int) -> ThreatTraining:
    """``config`` for a set of so many images: one that is smaller than the batch is one batch, and a small set is
    passed over until ``least_steps`` are done."""
    batch = min(config.batch_size, images)
    epochs = max(config.epochs, config.least_steps / (images // batch))
    return config.model_copy(update={"batch_size": batch, "epochs": epochs})


def _images_seen(config: ThreatTraining, load: Workload) -> int:
    ours = fitted(config, load.images)
    return planned_steps(load.images, ours) * ours.batch_size


def _train(
    encoder: Encoder, images: ImageSet, objective: ObjectiveFactory, config: ThreatTraining, run: Run, *, seed: int
) -> Pretraining:
    return pretrain(encoder, images, objective, fitted(config, len(images)), run, seed=seed)
