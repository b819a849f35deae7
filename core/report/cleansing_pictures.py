"""Pictures of a cleansing: what each candidate window looks like and why it was chosen, and what was removed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from core.cleansing.result import Candidate, Cleansing, Window
from core.report.cleansing import ranked_removed
from core.report.pictures import GAP, Picture, encoded, magnified
from core.types import ImageSet

SHOWN = 20
"""Candidates with a picture of their own: the papers' k, the best that train the poison classifier."""

REMOVED_SHOWN = 48
_PANEL = 160
"""Shortest side of a panel, in pixels, where it can be reached by whole enlargement."""
_COLUMNS = 10
_RED, _WHITE = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1), torch.ones(3, 1, 1)
_HEAT = torch.tensor([[0.0, 0.0, 0.1], [0.35, 0.05, 0.45], [0.8, 0.2, 0.3], [0.98, 0.6, 0.1], [1.0, 1.0, 0.7]])
"""Colours of attention from least to most: they rise in brightness, so that they read in grey too."""


def candidate_pictures(found: Cleansing, images: ImageSet) -> tuple[Picture, ...]:
    """``candidate-01.png`` and so on for the best candidates: the image with its window, its attention map, and the
    window's pixels, side by side."""
    return tuple(_candidate(candidate, images) for candidate in found.candidates[:SHOWN])


def sheets(found: Cleansing, images: ImageSet) -> tuple[Picture, ...]:
    """``candidates.png``, the patches of the best candidates, and ``flagged.png``, the removed images of the highest
    scores; each is there only if there is something to show."""
    shown = found.candidates[:SHOWN]
    pictures = []
    if shown:
        side = max(candidate.window.side for candidate in shown)
        factor = max(1, round(96 / side))
        patches = [magnified(candidate.patch.float() / 255, factor) for candidate in shown]
        alt = f"The pixels of the {len(shown)} best candidate windows, in the order of their ranks, row by row."
        pictures.append(Picture("candidates.png", encoded(_grid(patches, factor * side)), alt))
    removed = ranked_removed(found)[:REMOVED_SHOWN]
    if removed:
        batch = images.batch(torch.tensor(removed))
        factor = max(1, round(72 / min(batch.shape[2:])))
        cells = [magnified(image, factor) for image in batch]
        alt = f"The {len(removed)} removed images of the highest classifier scores, highest first, row by row."
        pictures.append(Picture("flagged.png", encoded(_grid(cells, max(cells[0].shape[1:]))), alt))
    return tuple(pictures)


def _candidate(candidate: Candidate, images: ImageSet) -> Picture:
    image = images.batch(torch.tensor([candidate.index]))[0]
    factor = max(1, round(_PANEL / min(image.shape[1:])))
    heat = 0.35 * image.mean(0, keepdim=True) + 0.65 * _coloured(candidate.attention)
    framed = [
        _framed(magnified(panel, factor), candidate.window, factor, colour)
        for panel, colour in ((image, _RED), (heat, _WHITE))
    ]
    height = framed[0].shape[1]
    # The patch is as large as the panels' height allows: it is what the reader should judge.
    patch = magnified(candidate.patch.float() / 255, max(1, height // candidate.window.side))
    patch = functional.pad(patch, (0, 0, 0, height - patch.shape[1]), value=1.0)[:, :height]
    gap = torch.ones(3, height, GAP)
    at = candidate.window
    alt = (
        f"Rank {candidate.rank}: the image with its window of {at.side}x{at.side} pixels at row {at.top}, column "
        f"{at.left}; its attention map, brighter where a trigger is likelier; the window's pixels."
    )
    return Picture(
        f"candidate-{candidate.rank:02d}.png", encoded(torch.cat([framed[0], gap, framed[1], gap, patch], 2)), alt
    )


def _coloured(attention: Tensor) -> Tensor:
    """``[3, H, W]`` of a map ``[H, W]``, stretched to its own range."""
    low, high = attention.min(), attention.max()
    place = (attention - low) / (high - low).clamp_min(1e-12) * (len(_HEAT) - 1)
    below = place.floor().long().clamp(0, len(_HEAT) - 2)
    share = (place - below)[..., None]
    return ((1 - share) * _HEAT[below] + share * _HEAT[below + 1]).permute(2, 0, 1)


def _framed(image: Tensor, window: Window, factor: int, colour: Tensor) -> Tensor:
    """A frame of two pixels around the window, inside the picture."""
    framed = image.clone()
    top, left, side = (factor * value for value in (window.top, window.left, window.side))
    bottom, right = top + side, left + side
    for rows, columns in (
        (slice(top, top + 2), slice(left, right)),
        (slice(bottom - 2, bottom), slice(left, right)),
        (slice(top, bottom), slice(left, left + 2)),
        (slice(top, bottom), slice(right - 2, right)),
    ):
        framed[:, rows, columns] = colour
    return framed


def _grid(cells: list[Tensor], side: int) -> Tensor:
    """Cells ``[3, h, w]`` of at most ``side`` pixels in rows, on white."""
    padded = [
        functional.pad(cell, (0, side + GAP - cell.shape[2], 0, side + GAP - cell.shape[1]), value=1.0)
        for cell in cells
    ]
    columns = min(_COLUMNS, len(padded))
    padded += [torch.ones_like(padded[0])] * (-len(padded) % columns)
    return torch.cat([torch.cat(padded[i : i + columns], 2) for i in range(0, len(padded), columns)], 1)
