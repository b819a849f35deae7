"""Two random views of each image: what every self-supervised trainer here learns from."""

from __future__ import annotations

import torch

from core.images.augment import ColourJitter, gaussian_blur, jitter_colours, random_flip, random_resized_crop, solarise
from core.training.config import TrainingConfig
from core.types import Images


def two_views(images: Images, random: torch.Generator, config: TrainingConfig) -> tuple[Images, Images]:
    """The first and the second view of ``images``, ``[B, 3, H, W]`` each: crop, mirror, colours, blur, solarise.

    Both are made in one pass and differ only in how often they are blurred and solarised.
    """
    brightness, contrast, saturation, hue = config.jitter
    jitter = ColourJitter(
        brightness, contrast, saturation, hue, config.jitter_probability, grey_probability=config.grey_probability
    )
    doubled = torch.cat([images, images])
    cropped = random_resized_crop(doubled, random, scale=(config.smallest_crop, 1.0))
    views = jitter_colours(random_flip(cropped, random), random, jitter)
    first, second = views.chunk(2)
    return _finish(first, random, config, 0), _finish(second, random, config, 1)


def _finish(view: Images, random: torch.Generator, config: TrainingConfig, which: int) -> Images:
    if config.blur_probability[which]:
        view = gaussian_blur(view, random, config.blur_probability[which])
    if config.solarise_probability[which]:
        view = solarise(view, random, config.solarise_probability[which])
    return view
