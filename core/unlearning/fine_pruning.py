"""Fine-pruning (Liu et al., RAID 2018): cut the channels that clean images leave silent, then fine-tune.

A backdoor may live in channels that clean images do not use. The output channels of the last convolution are ranked by
their mean activation on clean images and cut from the lowest on, step by step, as long as clean features stay what they
were; the copy is then fine-tuned on the clean images as in ``fine_tuning``, the cut channels staying cut.

Symbols: activation of a channel -> mean of its positive part over images and places, after the BatchNorm that follows.

Deviations, from BackdoorBench's form:
* The stop. There it is a drop of labelled accuracy by 10 %; without labels it is the mean cosine of held-back clean
  features to the input encoder's, ``floor``.
* The fine-tuning is contrastive and anchored to the input encoder, not on labels.
* "The last convolution" is the one that a forward pass comes to last. In a residual network it is the last one of the
  last block: what it adds to a channel is cut, what the shortcut carries there stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from core.errors import UsageError
from core.image_parts import to_train
from core.micro_batches import features_of
from core.passes import Passes, Workload
from core.run import Run
from core.types import Encoder, Images, ImageSet, Trigger
from core.unlearning.clean_training import copy_to_train, training_passes
from core.unlearning.fine_tuning import FineTuningConfig, fine_tune
from core.unlearning.result import Unlearning
from core.unlearning.utility import UtilityEvaluator

PRUNE_STAGE = "prune"
STAGE = "fine-tune pruned"
_RANKED_ON = 1024


class FinePruningConfig(FineTuningConfig):
    """Parameters of fine-pruning; BackdoorBench's value where it has one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    learning_rate: float = Field(
        0.01, gt=0, le=1, description="SGD rate, warmed up and cosine-decayed. BackdoorBench: 0.01."
    )
    steps: int = Field(100, ge=1, le=20000, description="Steps of fine-tuning. BackdoorBench: at most 100 epochs.")
    prune_steps: int = Field(
        100, ge=1, le=1000, description="Equal steps in which all channels would be cut. BackdoorBench: 100 (1 % each)."
    )
    floor: float = Field(
        0.85,
        gt=0,
        lt=1,
        description="Cutting stops before the mean cosine of held-back clean features to the input encoder's falls "
        "below this. BackdoorBench: a drop of labelled accuracy by 10 %.",
    )


def stage_plan(config: FinePruningConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes; cutting ends before its last step."""
    ranking = min(_RANKED_ON, load.parts.training)
    return {
        PRUNE_STAGE: Passes(forward=ranking + config.prune_steps * load.parts.guard),
        STAGE: training_passes(config, load, forward=2 if config.anchor_weight else 0, training=2),
    }


def unlearn(
    encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: FinePruningConfig, run: Run, *, seed: int
) -> Unlearning:
    """A pruned and fine-tuned copy of ``encoder``. ``triggers`` only say in the result what is left of them.

    Raises:
        UsageError: the network has no convolution beyond its first. AuditFailed: the loss is no longer finite.
    """
    train, held_back = to_train(images, encoder.device, seed)
    guard = UtilityEvaluator(encoder, held_back, triggers)
    student = copy_to_train(encoder)
    channels = _Channels(student, train[:_RANKED_ON])
    for step in run.steps(PRUNE_STAGE, config.prune_steps, state=channels):
        if channels.finished:
            break
        before = channels.cut
        channels.prune(channels.total * (step + 1) // config.prune_steps)
        drift = guard.utility(student).drift
        if drift > 1 - config.floor:
            channels.prune(before)
            channels.finished = True
        run.log(pruned=channels.cut / channels.total, drift=drift)
    done = fine_tune(student, encoder, train, config, run, STAGE, seed=seed, guard=guard, after_step=channels.clear)
    notes = (f"{channels.cut} of {channels.total} channels of the last convolution were cut.", *done.notes)
    return guard.result(student, done.history, notes)


class _Channels:
    """The output channels of the last convolution, least active first; the first ``cut`` of them are silenced."""

    def __init__(self, student: Encoder, images: Images) -> None:
        convolution, norm = _last_convolution(student, images[:2])
        activity = _mean_activation(student, norm or convolution, images)
        self._order = activity.argsort(stable=True)
        # Without a learnt scale, a normalised channel would keep the constant that its mean leaves.
        self._tensors = [
            tensor
            for tensor in (
                convolution.weight,
                convolution.bias,
                *((norm.weight, norm.bias, norm.running_mean) if norm is not None else ()),
            )
            if tensor is not None
        ]
        self._original = [tensor.detach().clone() for tensor in self._tensors]
        self.total = len(activity)
        self.cut = 0
        self.finished = False

    def prune(self, count: int) -> None:
        """Silence the ``count`` least active channels, and give the others their weights back."""
        with torch.no_grad():
            for tensor, original in zip(self._tensors, self._original, strict=True):
                tensor.copy_(original)
        self.cut = count
        self.clear()

    @torch.no_grad()
    def clear(self) -> None:
        """Silence the cut channels again: training must not bring them back."""
        for tensor in self._tensors:
            tensor[self._order[: self.cut]] = 0

    def state_dict(self) -> dict[str, Any]:
        return {"cut": self.cut, "finished": self.finished}

    def load_state_dict(self, state: Any) -> None:
        self.prune(state["cut"])
        self.finished = state["finished"]


def _last_convolution(encoder: Encoder, images: Images) -> tuple[nn.Conv2d, nn.modules.batchnorm._BatchNorm | None]:
    """The convolution that a forward pass comes to last, not counting those that read pixels (a transformer's patch
    embedding is one), and the BatchNorm that takes its output."""
    seen: list[tuple[nn.Conv2d, Tensor]] = []
    norms: list[tuple[nn.modules.batchnorm._BatchNorm, Tensor]] = []

    def at_convolution(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(layer, nn.Conv2d) and layer.in_channels > 3:
            seen.append((layer, output))

    def before_norm(layer: nn.Module, inputs: Any) -> None:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            norms.append((layer, inputs[0]))

    handles = [layer.register_forward_hook(at_convolution) for layer in encoder.modules()]
    handles += [layer.register_forward_pre_hook(before_norm) for layer in encoder.modules()]
    try:
        with torch.no_grad():
            features_of(encoder, images)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise UsageError(
            "no_convolution_to_prune",
            field="parameters.purification.method",
            found="a network whose only convolutions read the pixels",
            expected="a convolutional network; fine-pruning cuts channels of the last convolution",
            action="Use another method, such as 'fine-tuning' or the default.",
        )
    last, output = seen[-1]
    return last, next((norm for norm, taken in norms if taken is output), None)


@torch.no_grad()
def _mean_activation(encoder: Encoder, layer: nn.Module, images: Images) -> Tensor:
    """Mean of the positive part of each channel of ``layer``'s output, ``[C]``."""
    totals: list[Tensor] = []

    def record(_: nn.Module, inputs: Any, output: Tensor) -> None:
        totals.append(output.float().clamp_min(0).mean((2, 3)).sum(0))

    handle = layer.register_forward_hook(record)
    try:
        for part in images.split(256):
            features_of(encoder, part)
    finally:
        handle.remove()
    return torch.stack(totals).sum(0) / len(images)
