"""The linear probe: how well classes can be read off an encoder's features.

Features are L2-normalised first: attacks on encoders control directions and not norms, and a probe on raw features
misstates the ASR (2.5 % read where 67 % were there). Then each dimension is standardised with the training set's mean
and deviation, and a multinomial logistic regression is fitted to convergence, without random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from core.triggers.stored import as_stored
from core.types import Encoder, Features, ImageSet, Trigger

_ITERATIONS = 150
_BATCH = 512


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe. ``weight`` ``[C, D]`` and ``bias`` ``[C]`` act on standardised unit features."""

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    def logits(self, features: Features) -> Tensor:
        """``[B, C]`` for unit features ``[B, D]``."""
        return functional.linear((features - self.mean) / self.deviation, self.weight, self.bias)

    def predict(self, features: Features) -> Tensor:
        """Classes, ``[B]`` int64."""
        return self.logits(features).argmax(1)

    def confidence(self, features: Features) -> Tensor:
        """Class probabilities, ``[B, C]``."""
        return self.logits(features).softmax(1)


def fit_linear_probe(features: Features, labels: Tensor, classes: int, *, weight_decay: float = 1e-3) -> LinearProbe:
    """Fit a probe to unit ``features`` ``[N, D]`` and ``labels`` ``[N]``, by LBFGS on the whole set.

    Minimises mean cross-entropy + ``weight_decay`` * ||weight||^2 from zero weights; the bias is not decayed.
    """
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    inputs = (features - mean) / deviation
    weight = torch.zeros(classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(classes, device=features.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(functional.linear(inputs, weight, bias), labels)
        value = value + weight_decay * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return LinearProbe(mean, deviation, weight.detach(), bias.detach())


@torch.no_grad()
def unit_features(encoder: Encoder, images: ImageSet, trigger: Trigger | None = None) -> Features:
    """L2-normalised features of all ``images``, ``[N, D]`` float32 on the encoder's device, in full precision.

    With ``trigger``, those of the triggered images, rounded to 8 bits as a victim would see them.
    """
    batches = []
    for start in range(0, len(images), _BATCH):
        batch = images.batch(slice(start, start + _BATCH), encoder.device)
        if trigger is not None:
            batch = as_stored(trigger(batch))
        batches.append(
            functional.normalize(encoder(batch.contiguous(memory_format=torch.channels_last)).float(), dim=1)
        )
    return torch.cat(batches)
