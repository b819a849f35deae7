"""Kinds of trigger: what is stamped while searching is what the recovered trigger stamps, and its size is bounded."""

import pytest
import torch

from core.attacks.trigger_patterns import spectral
from core.recovery.hypotheses import AdditivePattern, Hypothesis, MaskedPattern, SpectralPattern, WindowPattern

SIZES = [(32, 32), (48, 40)]
KINDS = [MaskedPattern(0.05), AdditivePattern(8 / 255), SpectralPattern(1.6), WindowPattern(3, 4, 6, 0.19)]


def raw_of(hypothesis: Hypothesis, size: tuple[int, int]) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return 2 * torch.randn(hypothesis.channels, *hypothesis.canvas(size), generator=random)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("hypothesis", KINDS, ids=lambda hypothesis: hypothesis.name)
def test_the_recovered_trigger_is_the_one_that_was_searched(hypothesis: Hypothesis, size: tuple[int, int]) -> None:
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(2))
    raw = raw_of(hypothesis, size)
    trigger = hypothesis.trigger(raw, size)
    torch.testing.assert_close(trigger(images), hypothesis.stamp(raw, images), rtol=0, atol=1e-5)
    amount, unit = hypothesis.size(trigger)
    assert amount > 0 and unit


@pytest.mark.parametrize("size", SIZES)
def test_a_spectral_pattern_spends_at_most_its_budget_in_each_block(size: tuple[int, int]) -> None:
    hypothesis = SpectralPattern(1.6)
    delta = hypothesis.trigger(raw_of(hypothesis, size), size).delta  # type: ignore[union-attr]
    block = delta[:, :32, :32].double()
    waves = torch.arange(32, dtype=torch.float64)
    basis = (2 / 32) ** 0.5 * torch.cos(torch.pi * waves[:, None] * (2 * waves + 1) / 64)
    basis[0] /= 2**0.5
    amplitudes = (basis @ block @ basis.T).abs().amax(0)
    assert float(amplitudes.sum()) <= 1.6 + 1e-4
    # It repeats from block to block.
    torch.testing.assert_close(delta[:, 32:, :], delta[:, : size[0] - 32, :])


def test_ctrls_trigger_is_within_the_default_budget() -> None:
    """Two waves, the larger channel of each: blue, 2.03 times the magnitude."""
    block = spectral((32, 32), magnitude=100).delta.double()
    waves = torch.arange(32, dtype=torch.float64)
    basis = (2 / 32) ** 0.5 * torch.cos(torch.pi * waves[:, None] * (2 * waves + 1) / 64)
    basis[0] /= 2**0.5
    amplitudes = (basis @ block @ basis.T).abs().amax(0)
    assert float(amplitudes.sum()) == pytest.approx(1.6, abs=0.02)


def test_a_spectral_search_can_reach_any_wave() -> None:
    """Gradient ascent on the correlation with CTRL's pattern finds its two frequencies."""
    hypothesis = SpectralPattern(1.6)
    wanted = spectral((32, 32), magnitude=100).delta
    raw = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=0.15, betas=(0.5, 0.9))
    grey = torch.full((1, 3, 32, 32), 0.5)
    for _ in range(80):
        delta = hypothesis.stamp(raw, grey) - grey
        loss = -(delta * wanted).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    shares = torch.softmax(2 * raw.detach()[0].flatten(), 0)
    top = {(int(i) // 32, int(i) % 32) for i in shares.topk(2).indices}
    assert top == {(15, 15), (31, 31)}
