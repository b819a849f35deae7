"""Passes of an encoder within the memory budget: how many images fit, and the same numbers where fewer do.

What an image costs is measured once per encoder and mode, with a pass of a few blank images. A batch that fits goes
through as one, as if there were no budget. Of a larger one the parts go through one after another. Their gradients are
exact although a loss may couple all images (a pairwise cosine): the first pass keeps features alone, and each part
passes again when its gradient is asked for (gradient caching, Gao et al. 2021; ``torch.utils.checkpoint``). Where each
trigger has a loss of its own, :func:`groups` splits by triggers instead, which needs no second pass.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from core.allocator import release_freed
from core.device import is_gpu, mixed_precision
from core.errors import UsageError
from core.live_bytes import LiveBytes
from core.memory import budget_on
from core.memory_size import in_words
from core.types import Encoder, Features, Images

_PROBE = (2, 4)
"""Images of the two passes whose difference is what an image costs. One alone has no statistics to normalise by."""
_UNSEEN = 1.45
"""What the count of tensors does not see: kernels take memory for themselves, and freed memory is not always used
again. Measured at 224 pixels: with 1.25 the peak was 1.0 to 1.2 of the budget (``tests/benchmarks/peaks.py``)."""
_STAMPING = 6
"""Copies of an image that stamping a trigger on it holds until the backward pass."""


@dataclass(frozen=True)
class Cost:
    """Bytes of a pass: ``fixed`` whatever its size (gradients of weights among them), and of ``each`` image."""

    fixed: int
    each: int


_costs: weakref.WeakKeyDictionary[Encoder, dict[tuple[object, ...], Cost]] = weakref.WeakKeyDictionary()


def features_of(encoder: Encoder, images: Images, *, half: bool = True) -> Features:
    """Features ``[B, D]`` fp32 of ``images`` ``[B, 3, H, W]``, in bf16 where that is fast unless ``half`` is False.

    Gradients flow to the images and to weights that take them.
    """
    (features,) = in_parts(encoder, images, lambda part: (one_pass(encoder, part, half=half),), half=half)
    return features


def features_in_chunks(encoder: Encoder, images: Images, chunk: int = 256, *, half: bool = True) -> Features:
    """:func:`features_of` without gradients, at most ``chunk`` images at a time."""
    with torch.no_grad():
        at_once = min(chunk, room(encoder, images, learning=False, half=half))
        return torch.cat([one_pass(encoder, part, half=half) for part in images.split(at_once)])


def one_pass(encoder: Encoder, images: Images, *, half: bool = True) -> Features:
    """:func:`features_of` of images that are known to fit."""
    with mixed_precision(encoder.device, encoder, enabled=half):
        features: Features = encoder(images.contiguous(memory_format=torch.channels_last))
    return features.float()


def in_parts(
    encoder: Encoder, images: Images, look: Callable[[Images], tuple[Tensor, ...]], *, half: bool = True
) -> tuple[Tensor, ...]:
    """What ``look`` makes of ``images`` with one pass of ``encoder``, as many of them at a time as fit; its results
    have a row for each image. Where ``look`` learns, each part passes once more in the backward pass."""
    learning = torch.is_grad_enabled() and (images.requires_grad or takes_gradients(encoder))
    at_once = room(encoder, images, learning=learning, half=half)
    if len(images) <= at_once:
        return look(images)
    parts = images.chunk(-(-len(images) // at_once))
    return joined([recomputed(look, part) if learning else look(part) for part in parts])


def recomputed(look: Callable[..., tuple[Tensor, ...]], *images: Images) -> tuple[Tensor, ...]:
    """``look(*images)``, of which only the results are kept; its backward pass computes it once more."""
    results = checkpoint(look, *images, use_reentrant=False)
    assert isinstance(results, tuple)
    return results


def joined(results: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The rows of several parts' results."""
    return tuple(torch.cat(column) for column in zip(*results, strict=True))


def groups(encoder: Encoder, images: Images, count: int) -> list[slice]:
    """``count`` triggers in groups, such that each group's triggers on ``images`` ``[B, 3, H, W]`` fit with gradients;
    one trigger at least. For losses that look at one trigger at a time."""
    return even_slices(count, max(1, room(encoder, images, learning=True) // max(1, len(images))))


def even_slices(count: int, at_once: int) -> list[slice]:
    """``count`` things in as few slices of at most ``at_once`` as possible, about equally long."""
    size = -(-count // max(1, -(-count // at_once)))
    return [slice(first, min(count, first + size)) for first in range(0, count, max(1, size))]


def room(encoder: Encoder, images: Images, *, learning: bool, half: bool = True) -> int:
    """How many images of the size of ``images`` ``[B, 3, H, W]`` fit, with the backward pass if ``learning``.

    Raises:
        UsageError: a budget was stated, and not one image fits into it.
    """
    size = (images.shape[-2], images.shape[-1])
    return fitting(cost_of(encoder, size, learning=learning, half=half), encoder.device)


def fitting(cost: Cost, device: torch.device, *, least: int = 1, whose: str = "one image") -> int:
    """How often ``cost`` fits into the budget, ``least`` times at least; ``whose`` cost ``least`` times is, in words.

    Raises:
        UsageError: a budget was stated, and that does not fit.
    """
    budget = budget_on(device)
    fit = (budget.size - cost.fixed) // max(1, cost.each)
    if fit < least and budget.stated:
        needed = in_words(cost.fixed + least * cost.each)
        raise UsageError(
            "memory_too_small",
            field="memory",
            found=f"a budget of {in_words(budget.size)}",
            expected=f"at least {needed}, which {whose} in this encoder takes",
            action=f"Allow {needed} or more: --memory {needed}, or WORKER_MEMORY of the service's workers.",
        )
    return max(least, fit)


def cost_of(encoder: Encoder, size: tuple[int, int], *, learning: bool, half: bool = True) -> Cost:
    """What passes of images of ``size`` cost in ``encoder``, in the mode that it is in; measured once."""
    trained = learning and takes_gradients(encoder)
    key = (size, learning, trained, half, encoder.training, encoder.device)
    known = _costs.setdefault(encoder, {})
    if key not in known:
        known[key] = _measured(encoder, size, learning, half)
    return known[key]


def takes_gradients(encoder: Encoder) -> bool:
    """Whether any of the weights does."""
    return any(weight.requires_grad for weight in encoder.parameters())


def _measured(encoder: Encoder, size: tuple[int, int], learning: bool, half: bool) -> Cost:
    # A pass in training mode changes running statistics, and draws random numbers.
    probe = copy.deepcopy(encoder) if any(module.training for module in encoder.modules()) else encoder
    with torch.random.fork_rng(devices=[encoder.device] if is_gpu(encoder.device) else []):
        few, more = (_peak(probe, count, size, learning, half) for count in _PROBE)
    release_freed()
    each = (more - few) / (_PROBE[1] - _PROBE[0])
    image = 3 * size[0] * size[1] * 4
    return Cost(
        fixed=int(_UNSEEN * max(0, few - _PROBE[0] * each)), each=int(_UNSEEN * each + learning * _STAMPING * image)
    )


def _peak(encoder: Encoder, count: int, size: tuple[int, int], learning: bool, half: bool) -> int:
    with torch.set_grad_enabled(learning), LiveBytes() as live:
        images = torch.full((count, 3, *size), 0.5, device=encoder.device, requires_grad=learning)
        with mixed_precision(encoder.device, encoder, enabled=half):
            # Not by calling it: hooks on the encoder count the passes of an audit.
            features = encoder.forward(images.contiguous(memory_format=torch.channels_last)).float()
        if learning:
            weights = [weight for weight in encoder.parameters() if weight.requires_grad]
            torch.autograd.grad(features.square().sum(), [images, *weights], allow_unused=True)
    peak: int = live.peak
    return peak
