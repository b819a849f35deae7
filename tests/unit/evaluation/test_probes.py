"""Each probe on features whose classes can be read off, and on how many labels it says it was fitted."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from core.config import parse_config
from core.errors import AuditFailed, UsageError
from core.evaluation.few_labels import stratified
from core.evaluation.mlp_probe import OFFICIAL, MlpProbe, MlpProbeConfig, fit_mlp_probe
from core.evaluation.probes import EvaluateConfig, fit_probe
from core.run import QuietRun

CLASSES = 43
ONE_EPOCH = MlpProbeConfig(epochs=1, least_steps=1)
QUICK = EvaluateConfig(neighbours=5, few_labels_share=0.2, mlp=MlpProbeConfig(epochs=12, batch_size=32, least_steps=1))


def clusters(count, seed, noise=0.35):
    """Unit features ``[count, 24]`` around 43 centres; the labels are sorted, as a folder's are."""
    centres = torch.randn(CLASSES, 24, generator=torch.Generator().manual_seed(9))
    labels = (torch.arange(count) % CLASSES).sort().values
    shift = noise * torch.randn(count, 24, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(centres[labels] + shift, dim=1), labels


@pytest.mark.parametrize(("name", "used"), [("linear", 430), ("linear-1pct", 86), ("mlp", 430), ("knn", 430)])
def test_forty_three_classes_are_read_off(name, used):
    """The MLP would not get there on images in the order of their classes, unshuffled."""
    features, labels = clusters(430, 0)
    unseen, truth = clusters(430, 1)
    probe = fit_probe(name, features, labels, CLASSES, QUICK, QuietRun(), seed=0)
    assert probe.labels_used == used
    assert (probe.predict(unseen) == truth).float().mean() > 0.9


def test_few_labels_keep_the_prior_of_many():
    """A penalty of N/n times the full one is scikit-learn's C of the full set: C weighs the *sum* of losses."""
    features, labels = clusters(430, 0, noise=1.0)
    unseen, _ = clusters(430, 1, noise=1.0)
    probe = fit_probe("linear-1pct", features, labels, CLASSES, QUICK, QuietRun(), seed=3, draw=2)
    chosen = stratified(labels, 0.2, 3, "few labels", 2)
    few = features[chosen]
    mean, deviation = few.mean(0), few.std(0) + 1e-6
    oracle = LogisticRegression(C=1 / (2 * 430 * 1e-3), tol=1e-8, max_iter=2000)
    oracle.fit(((few - mean) / deviation).numpy(), labels[chosen].numpy())
    expected = oracle.predict(((unseen - mean) / deviation).numpy())
    assert (probe.predict(unseen).numpy() == expected).mean() > 0.98


def test_mlp_is_badencoders_and_its_seeds():
    probe = MlpProbe(512, 10, torch.Generator())
    shapes = [tuple(p.shape) for p in probe.parameters() if p.ndim == 2]
    assert shapes == [(512, 512), (256, 512), (10, 256)]
    assert (OFFICIAL.epochs, OFFICIAL.batch_size, OFFICIAL.learning_rate) == (500, 64, 1e-4)
    features, labels = clusters(86, 0)
    fits = [fit_mlp_probe(features, labels, CLASSES, ONE_EPOCH, QuietRun(), seed=seed) for seed in (0, 0, 1)]
    logits = [fit(features).detach() for fit in fits]
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


def test_dropout_halves_the_first_layer_and_keeps_its_mean():
    probe = MlpProbe(8, 3, torch.Generator())
    seen = []
    probe.second.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    features = torch.rand(200, 8)
    probe(features), probe(features, torch.Generator().manual_seed(0))
    whole, dropped = seen
    assert float((dropped[whole > 0] == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(dropped.mean() / whole.mean()) == pytest.approx(1, abs=0.03)


def test_small_sets_get_their_steps_and_the_official_recipe_its_epochs():
    class Counting(QuietRun):
        def steps(self, name, total, *, state=None):
            counted.append(total)
            return iter(range(0))

    features, labels = clusters(86, 0)
    counted = []
    for config in (MlpProbeConfig(epochs=3, batch_size=40, least_steps=10), OFFICIAL):
        fit_mlp_probe(features, labels, CLASSES, config, Counting(), seed=0)
    assert counted == [4, 500]


def test_runaway_mlp_is_said_so():
    features, labels = clusters(86, 0)
    with pytest.raises(AuditFailed, match="loss"):
        fit_mlp_probe(features * torch.nan, labels, CLASSES, ONE_EPOCH, QuietRun(), seed=0)


def test_a_probe_is_fitted_once_and_must_exist():
    assert EvaluateConfig(probes=("knn", "linear", "knn")).probes == ("knn", "linear")
    with pytest.raises(UsageError, match="probes"):
        parse_config(EvaluateConfig, {"probes": ["svm"]})
    with pytest.raises(UsageError, match="probes"):
        parse_config(EvaluateConfig, {"probes": []})
