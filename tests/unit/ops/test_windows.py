"""Windows against convolutions and slices."""

import pytest
import torch
from torch.nn import functional

from core.ops.windows import best_window, cut, paste, window_sums
from core.random import generator


@pytest.mark.parametrize("side", [1, 4, 9])
def test_sums_are_those_of_a_convolution(side):
    maps = torch.rand(3, 12, 9, generator=generator(0, "maps"), dtype=torch.float64)
    expected = functional.conv2d(maps[:, None], torch.ones(1, 1, side, side, dtype=torch.float64))[:, 0]
    torch.testing.assert_close(window_sums(maps, side), expected)


def test_best_window_is_the_convolutions_largest():
    maps = torch.rand(40, 20, 16, generator=generator(1, "maps"))
    top, left = best_window(maps, 5)
    sums = functional.conv2d(maps[:, None].double(), torch.ones(1, 1, 5, 5, dtype=torch.float64))[:, 0]
    place = sums.flatten(1).argmax(1)
    assert torch.equal(top, place // 12) and torch.equal(left, place % 12)


def test_of_equal_windows_the_first_is_the_best():
    top, left = best_window(torch.full((2, 10, 10), 0.1), 3)
    assert top.tolist() == [0, 0] and left.tolist() == [0, 0]


def test_what_is_pasted_can_be_cut_out_and_nothing_else_changes():
    random = generator(2, "images")
    images, patches = torch.rand(4, 3, 10, 12, generator=random), torch.rand(4, 3, 3, 3, generator=random)
    top, left = torch.tensor([0, 7, 3, 5]), torch.tensor([0, 9, 4, 2])
    pasted = paste(images, patches, top, left)
    assert torch.equal(cut(pasted, top, left, 3), patches)
    for i in range(4):
        assert torch.equal(pasted[i, :, top[i] : top[i] + 3, left[i] : left[i] + 3], patches[i])
    restored = paste(pasted, cut(images, top, left, 3), top, left)
    assert torch.equal(restored, images)
