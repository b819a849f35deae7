"""DECREE: detect a backdoored encoder by the smallest mask that makes all features alike (Feng et al., CVPR 2023).

    min over m, p of  -S(f((1 - m) x + m p)) + lambda ||m||_1

S is the mean off-diagonal pairwise cosine; lambda rises while S stays above the success threshold and falls
otherwise, so that the mask shrinks as far as the encoder allows. What decides is P-L1, the mask's L1 norm over its
largest possible value: mean(m). The field's baseline, beside ``ssldefender``.

Symbols: m -> ``mask``, p -> ``pattern``, lambda -> ``weight``. The L1 norm sums the mask over three channels, as the
official code does, which only sets lambda's scale.

Deviations: weights are frozen and images stay on the device (the same numbers for a third less work); the norm that is
reported belongs to the mask that is saved (officially the best mask is reset every epoch); success asks S > .99, not
|S| > .99; the paper's threshold of .1 flags clean encoders (docs/methods/decree.md), so the default is lower and the
paper's is a preset.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from core.config import MethodConfig
from core.ops.cosine import pairwise_similarity
from core.passes import Passes, Workload
from core.random import draw_batch, generator
from core.recovery.detection import Detection, HypothesisResult, RecoveredTrigger
from core.recovery.forward import features_in_chunks, features_of, frozen
from core.recovery.power import Effort
from core.recovery.preconditions import clean_similarity, look_plan, unmet_preconditions
from core.run import Run, StateDict
from core.triggers import MaskedTrigger
from core.types import Encoder, Images, ImageSet, Verdict

METHOD = "decree"
STAGE = "shrink mask"
HYPOTHESIS = "smallest mask"
SETTLES_FROM = 0.1
"""Share of the longest search after which the shortest ends."""
KEY = "decree-mask"
UNTESTED = (
    "Backdoors planted by poisoning the pre-training data: this method misses them.",
    "Triggers that a mask cannot hold, and large opaque patches near the threshold.",
)


_NUMBERS = ("weight", "above", "below", "stale", "marked", "lowered", "best_norm", "similarity", "reached")


class DecreeConfig(MethodConfig):
    """Parameters of DECREE; 'official' is the published code for 32-pixel encoders."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"threshold": 0.1, "doubtful": 0.1, "max_epochs": 1000, "least_progress": 0.0, "settled": 0.0}
    }

    effort: ClassVar[dict[str, tuple[Effort, str]]] = {
        "threshold": (Effort.AT_LEAST, "the search for a small mask"),
        "doubtful": (Effort.AT_LEAST, "the search for a small mask"),
        "batch_size": (Effort.AT_LEAST, "the search for a small mask"),
        "max_epochs": (Effort.AT_LEAST, "the search for a small mask"),
        "patience": (Effort.AT_LEAST, "the search for a small mask"),
        "least_progress": (Effort.AT_MOST, "the search for a small mask"),
        "settled": (Effort.AT_MOST, "the search for a small mask"),
    }

    threshold: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="P-L1 below which an encoder is backdoored. The paper: 0.1, which flags clean ones.",
    )
    doubtful: float = Field(0.075, gt=0, lt=1, description="P-L1 below which the answer is at best inconclusive.")
    batch_size: int = Field(128, ge=2, le=4096, description="Images per step. Official: 128.")
    max_epochs: int = Field(200, ge=1, le=5000, description="Cap on passes over the images. Official: 1000.")
    success: float = Field(0.99, gt=0, lt=1, description="S from which on the mask may shrink. Official: 0.99.")
    patience: int = Field(10, ge=1, description="Steps without a smaller mask before stopping. Official: 10.")
    least_progress: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="A mask puts the end off only if it is smaller by this share. Official: 0.",
    )
    settled: float = Field(
        0.75,
        ge=0,
        le=1,
        description="Share of the threshold below which a mask need only stop shrinking for the search to end. "
        "Official: 0.",
    )
    weight_start: float = Field(1e-3, gt=0, description="lambda at the start. Official: 1e-3.")
    weight_floor: float = Field(1e-5, gt=0, description="Smallest lambda. Official: 1e-5.")


def stage_plan(config: DecreeConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes, if the search goes on to its cap; it mostly ends long before."""
    per_epoch = math.ceil(load.images / config.batch_size)
    looks = min(512, load.images) + min(256, load.images)
    return look_plan(load) | {STAGE: Passes(looks, config.max_epochs * per_epoch * min(config.batch_size, load.images))}


def detect(encoder: Encoder, images: ImageSet, config: DecreeConfig, run: Run, *, seed: int) -> Detection:
    """Shrink a mask on all ``images`` and compare P-L1 with the threshold; ``score`` is 1 - P-L1."""
    network = frozen(encoder)
    pixels = images.batch(slice(None), encoder.device)
    floor = clean_similarity(network, pixels[:512])
    unmet = unmet_preconditions(network, images, run)
    if unmet:
        return Detection(METHOD, Verdict.INCONCLUSIVE, None, None, unmet, clean_similarity=floor, untested=UNTESTED)
    mask = _Mask(encoder, config, seed)
    shrink(network, pixels, mask, config, run, seed=seed)
    return _conclude(network, pixels, mask, config, floor)


def smallest_mask(encoder: Encoder, images: Images, config: DecreeConfig, run: Run, *, seed: int) -> float:
    """P-L1 of the smallest mask that makes ``images`` ``[N, 3, H, W]`` alike to the frozen ``encoder``; 1, all of the
    image, where none did within the budget."""
    mask = _Mask(encoder, config, seed)
    shrink(encoder, images, mask, config, run, seed=seed)
    return mask.trigger().area() if math.isfinite(float(mask.best_norm)) else 1.0


def shrink(encoder: Encoder, images: Images, mask: _Mask, config: DecreeConfig, run: Run, *, seed: int) -> None:
    """The official loop; the result is left in ``mask``. The host asks for numbers once an epoch, not every step."""
    per_epoch = math.ceil(len(images) / config.batch_size)
    for step in run.steps(STAGE, config.max_epochs * per_epoch, state=mask):
        epoch, within = divmod(step, per_epoch)
        if within == 0:
            if mask.finished(per_epoch, config):
                break
            mask.begin_epoch(epoch)
        chosen = draw_batch(images, config.batch_size, seed, STAGE, step)
        m, p = mask.current()
        similarity = pairwise_similarity(features_of(encoder, chosen + m * (p - chosen)))
        mask.optimiser.zero_grad(set_to_none=True)
        (-similarity + mask.weight * (3 * m.sum())).backward()
        mask.remember(similarity.detach(), m.detach(), p.detach(), config)
        mask.optimiser.step()
        mask.adapt(similarity.detach(), config)
        if within == per_epoch - 1:
            run.log(similarity=float(similarity.detach()), mask=float(m.detach().mean()))


class _Mask:
    """The mask's numbers, its optimiser, lambda's controller and the smallest successful mask so far.

    All of it stays on the encoder's device: a GPU would otherwise wait for the host at every step.
    """

    def __init__(self, encoder: Encoder, config: DecreeConfig, seed: int) -> None:
        random = generator(seed, METHOD, "start")
        height, width = encoder.image_size

        def start(channels: int) -> Tensor:
            uniform = torch.rand(channels, height, width, generator=random).clamp(0.01, 0.99)
            return torch.atanh(2 * uniform - 1).to(encoder.device).requires_grad_()

        def number(value: float) -> Tensor:
            return torch.tensor(value, dtype=torch.float64, device=encoder.device)

        self.mask, self.pattern = start(1), start(3)
        self.optimiser = torch.optim.Adam([self.mask, self.pattern], lr=0.5, betas=(0.5, 0.9))
        self.weight = number(config.weight_start)
        self.above, self.below = number(0), number(0)
        """Successful and failed steps in a row, since lambda last changed."""
        self.stale = number(0)
        """Steps since the mask last became smaller by ``least_progress``."""
        self.marked = number(math.inf)
        """The mask's norm then."""
        self.lowered = number(0)
        """How often lambda was lowered since then: a larger one was tried, and the mask failed under it."""
        self.best_norm, self.similarity = number(math.inf), number(-1)
        self.reached = number(0)
        """Sum of the similarities of the epoch's steps."""
        self.best = torch.zeros(4, height, width, device=encoder.device)

    def current(self) -> tuple[Tensor, Tensor]:
        """Mask ``[1, H, W]`` and pattern ``[3, H, W]``, both in [0, 1]."""
        return torch.tanh(self.mask) / 2 + 0.5, torch.tanh(self.pattern) / 2 + 0.5

    def begin_epoch(self, epoch: int) -> None:
        self.reached.zero_()
        for group in self.optimiser.param_groups:
            group["lr"] = 0.5 if epoch < 30 else 0.1 if epoch < 50 else 0.05

    def remember(self, similarity: Tensor, mask: Tensor, pattern: Tensor, config: DecreeConfig) -> None:
        """Keep the smallest successful mask; before the first success, the most successful one."""
        norm = mask.mean().double()
        succeeded = similarity > config.success
        smaller = succeeded & (norm < self.best_norm)
        first = ~succeeded & self.best_norm.isinf() & (similarity > self.similarity)
        progress = succeeded & (norm < (1 - config.least_progress) * self.marked)
        self.marked = torch.where(progress, norm, self.marked)
        self.stale = torch.where(progress, 0, self.stale + 1)
        self.lowered = torch.where(progress, 0, self.lowered)
        self.best_norm = torch.where(smaller, norm, self.best_norm)
        self.similarity = torch.where(smaller | first, similarity.double(), self.similarity)
        self.best = torch.where(smaller | first, torch.cat([mask, pattern]), self.best)
        self.reached += similarity

    def adapt(self, similarity: Tensor, config: DecreeConfig) -> None:
        """lambda x5 after more than five successful steps in a row, /5 after more than five failed ones."""
        succeeded = similarity > config.success
        above, below = torch.where(succeeded, self.above + 1, 0), torch.where(succeeded, 0, self.below + 1)
        smaller = (self.weight / 5).clamp_min(config.weight_floor)
        self.weight = torch.where(above > 5, self.weight * 5, torch.where(below > 5, smaller, self.weight))
        self.lowered = self.lowered + (below > 5)
        self.above, self.below = torch.where(above > 5, 0, above), torch.where(below > 5, 0, below)

    def finished(self, per_epoch: int, config: DecreeConfig) -> bool:
        """Whether the mask long has not shrunk, although it was pushed, and the last epoch succeeded on average.

        Steps alone do not show that: while lambda climbs from its floor, a mask that succeeds grows for longer than
        the official patience, and an encoder with a large patch would be called clean. They do where the smallest mask
        lies far below the threshold: what comes after can make it smaller still and can't change the verdict.
        """
        pushed = (self.reached / per_epoch > config.success) & (self.lowered > 0)
        settled = self.best_norm < config.settled * config.threshold
        return bool((pushed | settled) & (self.stale > config.patience))

    def trigger(self) -> MaskedTrigger:
        best = self.best.float().cpu()
        return MaskedTrigger(best[:1], best[1:])

    def state_dict(self) -> StateDict:
        return {
            "raw": [self.mask.detach(), self.pattern.detach()],
            "optimiser": self.optimiser.state_dict(),
            "numbers": [getattr(self, name) for name in _NUMBERS],
            "best": self.best,
        }

    def load_state_dict(self, state: StateDict) -> None:
        with torch.no_grad():
            self.mask.copy_(state["raw"][0])
            self.pattern.copy_(state["raw"][1])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in zip(_NUMBERS, state["numbers"], strict=True):
            setattr(self, name, value.to(self.mask.device))
        self.best = state["best"].to(self.mask.device)


def _conclude(encoder: Encoder, images: Images, mask: _Mask, config: DecreeConfig, floor: float) -> Detection:
    trigger = mask.trigger()
    size = trigger.area()
    similarity = float(pairwise_similarity(features_in_chunks(encoder, trigger(images[:256]))))
    score, threshold = 1 - size, 1 - config.threshold
    if not math.isfinite(float(mask.best_norm)):
        verdict, reason = Verdict.INCONCLUSIVE, f"No mask reached a similarity of {config.success} within the budget."
        return Detection(METHOD, verdict, None, threshold, (reason,), clean_similarity=floor, untested=UNTESTED)
    if size < config.threshold:
        verdict = Verdict.BACKDOORED
    else:
        verdict = Verdict.INCONCLUSIVE if size < config.doubtful else Verdict.CLEAN
    reason = (
        f"The smallest mask that makes all features alike covers {size:.1%} of the image "
        f"(backdoor: below {config.threshold:.1%})."
    )
    recovered = RecoveredTrigger(HYPOTHESIS, trigger, similarity, size, "fraction of pixels", key=KEY)
    return Detection(
        METHOD,
        verdict,
        score,
        threshold,
        (reason,),
        (HypothesisResult(HYPOTHESIS, score, threshold, (score,), key=KEY),),
        () if verdict is Verdict.CLEAN else (recovered,),
        floor,
        UNTESTED,
    )
