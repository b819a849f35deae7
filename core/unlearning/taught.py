"""What the distilling baselines share: a fine-tuned copy as the teacher of the suspect itself."""

from __future__ import annotations

from pydantic import Field

from core.passes import Passes, Workload
from core.run import Run
from core.types import Encoder, Images
from core.unlearning.clean_training import CleanTrainingConfig, copy_to_train, training_passes
from core.unlearning.fine_tuning import FineTuningConfig, fine_tune

TEACHER_STAGE = "fine-tune teacher"


class TaughtConfig(CleanTrainingConfig):
    """A student's training, and how its teacher is fine-tuned before."""

    teacher_steps: int = Field(
        100, ge=0, le=20000, description="Steps of the teacher's fine-tuning; 0: the teacher is the input encoder."
    )
    teacher_learning_rate: float = Field(0.003, gt=0, le=1, description="SGD rate of the teacher's fine-tuning.")
    anchor_weight: float = Field(
        5.0, ge=0, description="Weight of 1 - cosine to the input encoder's feature in the teacher's fine-tuning."
    )
    temperature: float = Field(0.5, gt=0, le=10, description="Temperature of every NT-Xent. SimCLR on CIFAR-10: 0.5.")


def teacher_plan(config: TaughtConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes, for the teacher's stage."""
    forward = 2 if config.anchor_weight else 0
    return {TEACHER_STAGE: training_passes(config, load, forward=forward, training=2, steps=config.teacher_steps)}


def taught_teacher(encoder: Encoder, images: Images, config: TaughtConfig, run: Run, *, seed: int) -> Encoder:
    """A frozen copy of ``encoder``, fine-tuned on the clean images as in ``fine_tuning``."""
    teacher = copy_to_train(encoder)
    if config.teacher_steps:
        recipe = FineTuningConfig(
            steps=config.teacher_steps,
            batch_size=config.batch_size,
            learning_rate=config.teacher_learning_rate,
            momentum=config.momentum,
            crop=config.crop,
            anchor_weight=config.anchor_weight,
            temperature=config.temperature,
        )
        fine_tune(teacher, encoder, images, recipe, run, TEACHER_STAGE, seed=seed)
    return teacher
