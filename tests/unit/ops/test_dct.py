"""The inverse cosine transform against SciPy's."""

import numpy as np
import torch
from scipy.fft import idctn

from core.ops.dct import inverse_dct


def test_it_is_scipys_orthonormal_inverse():
    coefficients = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = idctn(coefficients.numpy(), axes=(-2, -1), norm="ortho")
    np.testing.assert_allclose(inverse_dct(coefficients).numpy(), expected, atol=1e-12)


def test_energy_is_kept_and_gradients_flow():
    coefficients = torch.randn(1, 32, 32, requires_grad=True)
    pixels = inverse_dct(coefficients)
    torch.testing.assert_close(pixels.square().sum(), coefficients.square().sum(), rtol=1e-4, atol=1e-4)
    pixels.square().sum().backward()
    torch.testing.assert_close(coefficients.grad, 2 * coefficients.detach(), rtol=1e-4, atol=1e-4)
