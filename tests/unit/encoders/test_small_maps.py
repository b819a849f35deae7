"""The short way through small feature maps gives what a convolution gives, forward and backward."""

import copy

import pytest
import torch
from torch import nn

from core.encoders.small_maps import SmallMapConvolution, with_small_maps


def pair(**options):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 5, **options)).double()
    return plain, with_small_maps(copy.deepcopy(plain))


@pytest.mark.parametrize("side", [(1, 1), (2, 2), (1, 2), (2, 1), (3, 3), (4, 4), (7, 5)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
        {"kernel_size": 5, "padding": 2, "stride": 2},
        {"kernel_size": (3, 1), "padding": (1, 0)},
        {"kernel_size": 7, "padding": 3},
    ],
)
def test_numbers_and_gradients_are_those_of_a_convolution(side, options):
    plain, short = pair(**options)
    images = torch.rand(4, 6, *side, dtype=torch.float64)
    given, same = images.clone().requires_grad_(), images.clone().requires_grad_()
    expected, found = plain(given), short(same)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)
    pattern = torch.rand_like(expected)
    (expected * pattern).sum().backward()
    (found * pattern).sum().backward()
    torch.testing.assert_close(same.grad, given.grad)
    torch.testing.assert_close(short[0].weight.grad, plain[0].weight.grad)


def test_the_short_way_is_taken_where_every_output_sees_all_and_only_there():
    layer = SmallMapConvolution(3, 3, 3, padding=1)
    assert layer._covering_windows(1, 1) == ([1], [1])
    assert layer._covering_windows(2, 2) == ([1, 0], [1, 0])
    assert layer._covering_windows(3, 3) is None
    assert SmallMapConvolution(3, 3, 3, padding=1, stride=2)._covering_windows(2, 2) == ([1], [1])


def test_what_is_not_a_plain_convolution_stays():
    backbone = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding_mode="reflect", padding=1),
        nn.Conv2d(4, 4, 1),
    )
    assert [type(layer) for layer in with_small_maps(backbone)] == [nn.Conv2d] * 4


def test_names_and_parameters_stay():
    plain, _ = pair(kernel_size=3)
    before = dict(plain.named_parameters())
    after = dict(with_small_maps(plain).named_parameters())
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)
