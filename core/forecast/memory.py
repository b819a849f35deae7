"""How much memory an audit will take at its peak."""

from __future__ import annotations

from pathlib import Path

from core.device import is_gpu
from core.memory import budget_on
from core.micro_batches import cost_of
from core.passes import Passes
from core.recovery.forward import frozen
from core.types import Encoder, ImageSet

_TOGETHER = 600
"""Images of the largest step of a search, which go through at once where the budget holds them."""
_PAINTED = 100 * 4
"""Images' worth of numbers of the triggers of that step: each has its pixels, their gradient and Adam's two moments."""
_COPIES, _IN_TRAINING = 2, 5
"""Times that the weights are held: the encoder and a frozen copy; with a student, its gradients and momentum, and the
weights that it may go back to."""


def expected_peak(encoder: Encoder, images: ImageSet, needed: Passes) -> int:
    """Bytes on the encoder's device at the peak of an audit that ``needed`` such passes: what is held already (on a
    processor), the images as floats, the weights' copies, the triggers and what passes may take."""
    cost = cost_of(frozen(encoder), encoder.image_size, learning=bool(needed.backward or needed.training))
    passes = min(budget_on(encoder.device).size, cost.fixed + _TOGETHER * cost.each)
    image = 4 * 3 * encoder.image_size[0] * encoder.image_size[1]
    weights: int = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    copies = (_IN_TRAINING if needed.training else _COPIES) - (0 if is_gpu(encoder.device) else 1)
    held = 0 if is_gpu(encoder.device) else _resident()
    return held + image * (len(images) + (_PAINTED if needed.backward else 0)) + copies * weights + passes


def _resident() -> int:
    """Bytes that this process holds; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 2**10 for line in lines if line.startswith("VmRSS:")), 0)
