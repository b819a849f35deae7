"""What every self-supervised trainer's parameters have in common: duration, optimiser, views."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from core.config import MethodConfig

Probability = float


class TrainingConfig(MethodConfig):
    """Parameters of pre-training that all trainers share; each trainer's own class sets its defaults."""

    epochs: float = Field(100, gt=0, description="Passes over the images; fractions are allowed.")
    batch_size: int = Field(256, ge=2, description="Images per step over all devices, two views each.")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimiser.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate, for this batch size as it stands.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD; unused by the others.")
    weight_decay: float = Field(1e-6, ge=0, description="Weight decay, on all parameters.")
    warm_up: float = Field(
        0.05, ge=0, lt=1, description="Share of all steps in which the learning rate rises to its peak."
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="The learning rate after the warm-up.")

    smallest_crop: float = Field(0.2, gt=0, le=1, description="Least area of a crop, as a share of the image.")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.1), description="Strength of brightness, contrast, saturation and hue jitter."
    )
    jitter_probability: Probability = Field(0.8, ge=0, le=1, description="How often colours are jittered.")
    grey_probability: Probability = Field(0.2, ge=0, le=1, description="How often a view is grey.")
    blur_probability: tuple[Probability, Probability] = Field(
        (0.0, 0.0), description="How often the first and the second view are blurred; of little use at 32 pixels."
    )
    solarise_probability: tuple[Probability, Probability] = Field(
        (0.0, 0.0), description="How often the first and the second view are solarised. MoCo v3: 0 and 0.2."
    )
    cut_mix: bool = Field(
        False,
        description="i-CutMix: queries are mixed of two images, keys are not (PatchSearch's strong augmentation).",
    )

    @model_validator(mode="after")
    def _probabilities(self) -> TrainingConfig:
        for name in ("blur_probability", "solarise_probability"):
            if any(not 0 <= value <= 1 for value in getattr(self, name)):
                raise ValueError(f"{name} must hold two probabilities between 0 and 1")
        return self
