"""``evaluate`` on the planted backdoor, whose truth is known."""

import pytest
import torch

from core.errors import UsageError
from core.evaluation.accuracy import EvaluateConfig, KnownBackdoor, evaluate, labels_in
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
