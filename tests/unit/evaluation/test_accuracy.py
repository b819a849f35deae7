"""``evaluate`` on the planted backdoor, whose truth is known."""

import copy
from dataclasses import replace

import pytest
import torch

from core.errors import AuditFailed, UsageError
from core.evaluation.accuracy import EvaluateConfig, KnownBackdoor, evaluate, labels_in
from core.evaluation.mlp_probe import MlpProbeConfig
from core.images.labelled import LabelledImages
from core.run import QuietRun
from tests import planted

CLASSES = ("a", "b", "c", "d")


def labelled(count, seed, classes=CLASSES):
    return LabelledImages(planted.planted_images(count, seed=seed), planted.planted_labels(count), classes)


@pytest.fixture(scope="module")
def truth():
    return planted.planted_patch()


@pytest.fixture(scope="module")
def sets():
    return labelled(200, 0), labelled(120, 1)


def test_planted_backdoor_has_full_asr_and_its_twin_none(truth, sets):
    known = KnownBackdoor(truth.trigger, planted.TARGET_CLASS)
    backdoored = evaluate(truth.encoder, *sets, known, EvaluateConfig(), QuietRun())
    twin = evaluate(truth.twin, *sets, known, EvaluateConfig(), QuietRun())
    assert backdoored.acc.percent > 60 and twin.acc.percent > 60
    assert backdoored.asr.percent > 95
    assert backdoored.triggered_acc.percent < 35
    assert backdoored.target_class == "c"
    assert backdoored.net == pytest.approx(backdoored.asr.percent - backdoored.base.percent)
    assert twin.net < 25
    assert backdoored.asr.total == 90


def test_without_a_backdoor_only_accuracy_is_measured(truth, sets):
    result = evaluate(truth.twin, *sets, None, EvaluateConfig(neighbours=20), QuietRun())
    assert result.asr is None and result.base is None and result.net is None
    assert result.acc.total == result.test_images == 120
    assert result.knn_acc.percent > 50


def test_test_classes_are_matched_by_name(truth, sets):
    train, _ = sets
    test = LabelledImages(planted.planted_images(4), torch.tensor([0, 1, 0, 1]), ("b", "d"))
    assert labels_in(test, train.classes).tolist() == [1, 3, 1, 3]
    with pytest.raises(UsageError, match="lack: e"):
        labels_in(LabelledImages(test.images, test.labels, ("b", "e")), train.classes)


def test_impossible_target_is_an_error(truth, sets):
    with pytest.raises(UsageError, match="from 0 to 3"):
        evaluate(truth.twin, *sets, KnownBackdoor(truth.trigger, 4), EvaluateConfig(), QuietRun())


def test_finished_measurement_is_not_repeated(truth, sets):
    class Resumed(QuietRun):
        saved = None

        def steps(self, name, total, *, state=None):
            if self.saved is not None:
                state.load_state_dict(self.saved)
                return
            yield from range(total)
            type(self).saved = state.state_dict()

    first = evaluate(truth.encoder, *sets, None, EvaluateConfig(), Resumed())
    assert evaluate(truth.encoder, *sets, None, EvaluateConfig(), Resumed()) == first


EVERY_PROBE = EvaluateConfig(
    probes=("knn", "linear", "linear-1pct", "mlp"),
    neighbours=20,
    few_labels_share=0.1,
    mlp=MlpProbeConfig(epochs=15, batch_size=50, least_steps=1, learning_rate=3e-3),
)


def test_every_probe_is_set_against_the_same_probe_of_the_clean_twin(truth, sets):
    known = KnownBackdoor(truth.trigger, planted.TARGET_CLASS)
    result = evaluate(truth.encoder, *sets, known, EVERY_PROBE, QuietRun(), reference=truth.twin)
    alone = evaluate(truth.twin, *sets, known, EVERY_PROBE, QuietRun())
    assert [row.name for row in result.probes] == ["knn", "linear", "linear-1pct", "mlp"]
    assert [row.labels_used for row in result.probes] == [200, 200, 20, 200]
    for row, clean in zip(result.probes, alone.probes, strict=True):
        assert row.asr_all.total == 120 * row.draws and row.asr_all.hits >= row.asr.hits
        assert (row.reference_acc, row.reference_asr) == (clean.acc, clean.asr)
        assert row.asr_net.points == pytest.approx(row.asr.percent - clean.asr.percent)
        assert row.asr_net.low < row.asr_net.points < row.asr_net.high
        # The planted direction is a class mean, which lies amid all classes; standardised, it is its own class's. (On
        # few labels it falls to the target in some draws and to another class in the rest.)
        if row.name == "linear":
            assert row.asr.percent > 90 and row.asr_net.points > 50
    assert [row.draws for row in result.probes] == [1, 1, 5, 1]
    first = result.probes[0]
    assert (result.acc, result.asr, result.asr_net) == (first.acc, first.asr, first.asr_net)
    assert result.net == first.net.points and result.knn_acc == first.acc


def test_an_encoder_is_no_worse_than_itself(truth, sets):
    known = KnownBackdoor(truth.trigger, planted.TARGET_CLASS)
    result = evaluate(truth.encoder, *sets, known, EVERY_PROBE, QuietRun(), reference=truth.encoder, seed=4)
    assert [row.asr_net.points for row in result.probes] == [0, 0, 0, 0]


def test_the_seed_draws_the_few_labels(truth, sets):
    config = EvaluateConfig(probes=("linear-1pct",), few_labels_share=0.06)
    rows = [evaluate(truth.twin, *sets, None, config, QuietRun(), seed=seed) for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]
    assert rows[0].knn_acc is None and rows[0].probes[0].labels_used == 12


def test_features_are_computed_once_per_set(truth, sets):
    seen = []
    hook = truth.encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    known = KnownBackdoor(truth.trigger, planted.TARGET_CLASS)
    evaluate(truth.encoder, *sets, known, EvaluateConfig(probes=("knn", "linear-1pct")), QuietRun())
    hook.remove()
    assert seen == [200, 120, 120]


def test_an_encoder_in_train_mode_is_read_in_eval_mode_and_left_alone(truth, sets):
    expected = evaluate(truth.twin, *sets, None, EvaluateConfig(), QuietRun())
    training = copy.deepcopy(truth.twin).train()
    assert evaluate(training, *sets, None, EvaluateConfig(), QuietRun()) == expected
    assert training.training and training.backbone.trunk[1].training
    pairs = zip(training.state_dict().values(), truth.twin.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_reference_of_another_size_is_an_error(truth, sets):
    other = copy.deepcopy(truth.twin)
    other.image_size = (64, 64)
    with pytest.raises(UsageError, match="64x64"):
        evaluate(truth.twin, *sets, None, EvaluateConfig(), QuietRun(), reference=other)


def test_only_images_of_the_target_is_an_error(truth, sets):
    train, test = sets
    only = replace(test, labels=torch.full_like(test.labels, planted.TARGET_CLASS))
    known = KnownBackdoor(truth.trigger, planted.TARGET_CLASS)
    with pytest.raises(UsageError, match="'c' only"):
        evaluate(truth.twin, train, only, known, EvaluateConfig(), QuietRun())


def test_features_that_are_not_finite_are_said_so(truth, sets):
    broken = copy.deepcopy(truth.twin)
    with torch.no_grad():
        broken.backbone.trunk[0].weight.fill_(torch.nan)
    with pytest.raises(AuditFailed, match="reference: features"):
        evaluate(truth.twin, *sets, None, EvaluateConfig(), QuietRun(), reference=broken)
