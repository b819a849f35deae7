"""Threat models: an encoder trained on a suspect set so that the set can be judged by what was learnt from it.

Cleansing asks an encoder which patches act, and so needs one that was trained on the very images. Where the user has
none, one is trained here. It need not be a good encoder: the papers' threat models of 60 to 100 of 200 epochs obey a
trigger as much as fully trained ones (SSL-Backdoor, Table III; PoisonCAM, Sec. VI-H, trains shorter ones as well).

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
from core.run import Run
from core.training.config import TrainingConfig
from core.training.moco import Moco, MocoConfig
from core.training.objective import ObjectiveFactory
from core.training.pretrain import STAGE, Pretraining, pretrain
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


class SimclrThreatConfig(ThreatNetwork, SimclrConfig):
    """Parameters of a threat model by SimCLR."""

    epochs: float = Field(60, gt=0, description="Passes over the images. Full trainings take 200 and more.")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"quick": {"epochs": 20}, "paper": {**SimclrConfig.presets["224px"], "epochs": 200}}
    )


class MocoThreatConfig(ThreatNetwork, MocoConfig):
    """Parameters of a threat model by MoCo v2, which is the papers'."""

    epochs: float = Field(60, gt=0, description="Passes over the images. SSL-Backdoor and PoisonCAM: 200.")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"quick": {"epochs": 20}, "paper": dict(MocoConfig.presets["ssl-backdoor"])}
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


def stage_plan(config: TrainingConfig) -> dict[str, float]:
    """Stage name -> encoder passes, for a set of some 20,000 images; a step on a view costs three."""
    return {STAGE: 20000.0 * config.epochs * 2 * 3}


def _train(
    encoder: Encoder, images: ImageSet, objective: ObjectiveFactory, config: TrainingConfig, run: Run, *, seed: int
) -> Pretraining:
    # A set that is smaller than the batch is one batch.
    fitted = config.model_copy(update={"batch_size": min(config.batch_size, len(images))})
    return pretrain(encoder, images, objective, fitted, run, seed=seed)
