"""The normalisations of pixels that published encoders use, by name."""

from __future__ import annotations

Three = tuple[float, float, float]

IMAGENET: tuple[Three, Three] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Three, Three] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP: tuple[Three, Three] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

_NAMES = {IMAGENET: "ImageNet's", HALF: ".5 and .5", CLIP: "CLIP's"}


def normalisation_words(mean: Three, std: Three) -> str:
    """``ImageNet's mean and std`` where it has a name, else the numbers."""
    name = _NAMES.get((mean, std))
    if name is not None and name.endswith("'s"):
        return f"{name} mean and std"
    return f"mean {' '.join(f'{v:.4g}' for v in mean)} and std {' '.join(f'{v:.4g}' for v in std)}"
