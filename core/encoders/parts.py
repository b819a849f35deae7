"""A weight that the file holds in another form: a slice, a transpose, a reshape, or less a constant.

Translators of names also reshape: a class token [D] becomes [1, 1, D], a projection is transposed, one matrix is cut in
three. As long as the result lies in the memory of the file's tensor, its place there is known, and a new value can be
put back where the old one was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Numbers of the contiguous tensor at ``path``, in the order of ``shape`` and ``stride``, from ``offset`` on
    (counted in numbers); ``added``, of ``shape``, is a constant on top."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    added: Tensor | None = None


class Places:
    """Where in memory the tensors of a file lie."""

    def __init__(self, tensors: Mapping[tuple[str, ...], Tensor]) -> None:
        plain = [
            (each.data_ptr(), path, each) for path, each in tensors.items() if each.is_contiguous() and each.numel()
        ]
        self._places = sorted(plain, key=lambda place: place[0])
        self._begins = [begin for begin, _, _ in self._places]

    def find(self, tensor: Tensor) -> Part | None:
        """``tensor`` as a part of one of the file's; None if it lies elsewhere."""
        index = bisect_right(self._begins, tensor.data_ptr()) - 1
        if index < 0 or not tensor.numel():
            return None
        begin, path, whole = self._places[index]
        offset, rest = divmod(tensor.data_ptr() - begin, whole.element_size())
        last = offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.stride(), strict=True))
        if rest or tensor.dtype != whole.dtype or last >= whole.numel():
            return None
        return Part(path, tuple(tensor.shape), tuple(tensor.stride()), offset)


def take(whole: Tensor, part: Part) -> Tensor:
    """The weight that ``part`` of ``whole`` is."""
    seen = _seen(whole.contiguous(), part)
    return seen if part.added is None else seen + part.added


def put(whole: Tensor, part: Part, new: Tensor) -> Tensor:
    """``whole`` with the weight ``new`` in the place of ``part``; the rest as it was."""
    changed = whole.clone(memory_format=torch.contiguous_format)
    _seen(changed, part).copy_(new if part.added is None else new - part.added)
    return changed


def _seen(whole: Tensor, part: Part) -> Tensor:
    return whole.as_strided(part.shape, part.stride, whole.storage_offset() + part.offset)
