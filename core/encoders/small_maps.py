"""Convolutions on feature maps so small that every output sees the whole input: computed as one matrix product.

On 32-pixel images the last layers of a ResNet have maps of 2x2 or 1x1, where most taps of a 3x3 kernel meet padding
only. A linear layer over the taps that count gives the same numbers (up to rounding) for 4/9 to 1/9 of the work, and
as a plain matrix product: on a processor half of the time of a whole ResNet-18 is saved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SmallMapConvolution(nn.Conv2d):
    """A convolution that takes the matrix product where it can, and is an ordinary one everywhere else."""

    def forward(self, input: Tensor) -> Tensor:
        windows = self._covering_windows(input.shape[2], input.shape[3])
        if windows is None:
            return super().forward(input)
        rows, columns = windows
        # One block of rows per output position, each a crop of the kernel; pixels before channels, as channels_last.
        blocks = [
            self.weight[:, :, top : top + input.shape[2], left : left + input.shape[3]].permute(0, 2, 3, 1).flatten(1)
            for top in rows
            for left in columns
        ]
        product = functional.linear(input.permute(0, 2, 3, 1).flatten(1), torch.cat(blocks))
        output = product.view(len(input), len(rows), len(columns), self.out_channels).permute(0, 3, 1, 2)
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1).to(output.dtype)

    def _covering_windows(self, height: int, width: int) -> tuple[list[int], list[int]] | None:
        """Per output row and column the kernel's first tap on the input; None if some output does not see all."""
        starts = []
        for side, axis in ((height, 0), (width, 1)):
            kernel, stride, padding = self.kernel_size[axis], self.stride[axis], int(self.padding[axis])
            outputs = (side + 2 * padding - kernel) // stride + 1
            first = [padding - stride * position for position in range(outputs)]
            if not first or min(first) < 0 or max(first) + side > kernel:
                return None
            starts.append(first)
        # A kernel no larger than the map is already a matrix product, to the library as well.
        return None if self.kernel_size == (height, width) == (1, 1) else (starts[0], starts[1])


def with_small_maps(backbone: nn.Module) -> nn.Module:
    """``backbone`` with its plain convolutions able to take the short way; parameters and names stay. In place."""
    for module in list(backbone.modules()):
        for name, child in module.named_children():
            if _is_plain(child):
                setattr(module, name, _replacement(child))
    return backbone


def _is_plain(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and max(module.kernel_size) > 1
    )


def _replacement(old: nn.Module) -> SmallMapConvolution:
    assert isinstance(old, nn.Conv2d) and not isinstance(old.padding, str)
    with torch.device("meta"):
        new = SmallMapConvolution(
            old.in_channels,
            old.out_channels,
            (old.kernel_size[0], old.kernel_size[1]),
            (old.stride[0], old.stride[1]),
            (int(old.padding[0]), int(old.padding[1])),
            bias=old.bias is not None,
        )
    new.weight, new.bias = old.weight, old.bias
    return new.train(old.training)
