"""The linear probe against scikit-learn, and why features are normalised first."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from core.training.linear_probe import fit_linear_probe, unit_features
from core.triggers import AdditiveTrigger
from tests.planted import planted_encoder_for_training, planted_images


def clusters(count=300, classes=3, dimension=8, seed=0):
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dimension, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % classes
    return functional.normalize(centres[labels] + torch.randn(count, dimension, generator=random), dim=1), labels


def test_probe_is_scikit_learns_logistic_regression():
    features, labels = clusters()
    probe = fit_linear_probe(features, labels, 3, weight_decay=1e-2)
    inputs = ((features - features.mean(0)) / (features.std(0) + 1e-6)).numpy()
    # sklearn minimises C * sum of losses + ||w||^2 / 2, hence C = 1 / (2 N weight_decay).
    oracle = LogisticRegression(C=1 / (2 * len(labels) * 1e-2), tol=1e-8, max_iter=2000).fit(inputs, labels.numpy())
    np.testing.assert_allclose(probe.confidence(features).numpy(), oracle.predict_proba(inputs), atol=2e-3)
    unseen, _ = clusters(seed=1)
    predicted = oracle.predict(((unseen - features.mean(0)) / (features.std(0) + 1e-6)).numpy())
    assert (probe.predict(unseen).numpy() == predicted).mean() > 0.99


def test_constant_features_do_not_break_the_probe():
    features, labels = clusters()
    constant = torch.cat([features, torch.zeros(len(features), 1)], 1)
    assert torch.isfinite(fit_linear_probe(constant, labels, 3).logits(constant)).all()


def test_length_of_a_feature_does_not_matter():
    """A backdoor that triples the norm keeps its class: on raw features the standardised probe would read another."""
    images = planted_images(16)
    encoder = planted_encoder_for_training()
    features = unit_features(encoder, images)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(16))
    final = encoder.backbone.trunk[-1]
    with torch.no_grad():
        final.weight.mul_(3)
        final.bias.mul_(3)
    torch.testing.assert_close(unit_features(encoder, images), features)


def test_triggered_features_are_of_stored_images():
    images, encoder = planted_images(4), planted_encoder_for_training()
    faint = AdditiveTrigger(torch.full((3, 32, 32), 0.4 / 255))
    assert torch.equal(unit_features(encoder, images, faint), unit_features(encoder, images))
    visible = AdditiveTrigger(torch.full((3, 32, 32), 30 / 255))
    assert not torch.equal(unit_features(encoder, images, visible), unit_features(encoder, images))
