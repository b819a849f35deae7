"""The identity S_off = (||sum z||^2 - B) / (B (B - 1)) against the brute-force matrix."""

import pytest
import torch

from core.ops.cosine import mean_direction, paired_similarity, pairwise_similarity, similarity_to


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


@pytest.mark.parametrize(("batch", "dim"), [(2, 3), (7, 5), (64, 512)])
def test_pairwise_similarity_is_the_off_diagonal_mean_of_the_matrix(batch: int, dim: int) -> None:
    z = features(batch, dim)
    matrix = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
    expected = (matrix.sum() - matrix.trace()) / (batch * (batch - 1))
    assert float(pairwise_similarity(z)) == pytest.approx(float(expected), abs=1e-5)


def test_the_papers_form_with_its_diagonal_is_a_known_function_of_ours() -> None:
    z = features(16, 8)
    unit = torch.nn.functional.normalize(z, dim=1)
    inclusive = (unit @ unit.T).mean()
    assert float(inclusive) == pytest.approx(1 / 16 + (1 - 1 / 16) * float(pairwise_similarity(z)), abs=1e-5)


def test_leading_dimensions_are_independent_problems() -> None:
    z = features(3, 10, 6)
    assert torch.allclose(pairwise_similarity(z), torch.stack([pairwise_similarity(one) for one in z]), atol=1e-6)


def test_lengths_do_not_matter_and_equal_features_are_alike() -> None:
    direction = features(1, 9)
    z = direction * torch.tensor([[0.1], [3.0], [200.0]])
    assert float(pairwise_similarity(z)) == pytest.approx(1.0, abs=1e-5)
    assert float(mean_direction(z) @ torch.nn.functional.normalize(direction[0], dim=0)) == pytest.approx(1.0, abs=1e-5)
    assert float(similarity_to(-z, mean_direction(z))) == pytest.approx(-1.0, abs=1e-5)


def test_paired_similarity_compares_row_with_row() -> None:
    first, second = features(5, 4), features(5, 4, seed=1)
    assert torch.allclose(
        paired_similarity(first, second), torch.nn.functional.cosine_similarity(first, second), atol=1e-6
    )
