"""Fresh weights as a pure function of a seed; torch's own initialisation draws from the global generator."""

from __future__ import annotations

from torch import nn

from core.random import generator


def initialise(module: nn.Module, seed: int, *keys: str | int) -> None:
    """Give every convolution and linear layer He-normal weights, every BatchNorm the identity; in place.

    Raises:
        ValueError: a parameter belongs to a kind of layer that this function does not know.
    """
    random = generator(seed, *keys)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=random)
            else:
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu", generator=random)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_parameters()
        elif any(True for _ in layer.parameters(recurse=False)):
            raise ValueError(f"no rule to initialise {type(layer).__name__} at '{name}'")
