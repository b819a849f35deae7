"""Candidates that were not among the search's best: images that show the pixels of a trigger it found."""

from dataclasses import dataclass, field

import pytest
import torch

from core.cleansing import joining
from core.cleansing.activation_masking import Attention
from core.cleansing.candidates import Judged
from core.cleansing.config import CleansingConfig
from core.cleansing.examination import Examination, Place, ranked
from core.cleansing.flip_test import FlipScores
from core.cleansing.joining import join_matching
from core.cleansing.matching import find_matches
from core.cleansing.result import Window
from core.run import QuietRun
from tests.unit.cleansing.planted_set import SIDE, patch, planted_set

TEMPLATES = (patch(0).float() / 255, patch(1).float() / 255)


@dataclass
class BrightnessTest:
    """Stands in for a flip test: a patch moves as many images as its mean brightness says."""

    asked: list[int] = field(default_factory=list)
    device = torch.device("cpu")

    def scores(self, patches, targets):
        self.asked += targets.tolist()
        moved = 100 * patches.mean((1, 2, 3))
        return FlipScores(moved, moved + 1, torch.full((len(patches),), 100.0))


@pytest.fixture(scope="module")
def planted():
    return planted_set(triggers=2)


@pytest.fixture
def examine(planted):
    def localise(batch):
        return Attention(torch.zeros(len(batch), 32, 32), torch.zeros(len(batch), dtype=torch.int64))

    return Examination(planted.images, localise, BrightnessTest(), CleansingConfig(), QuietRun())


def found_in(planted, examine, count):
    """The search has met ``count`` images with the first patch, and one without any."""
    first = [i for i in planted.poisoned if i % 6 == 0][:count]
    places = [Place(Window(*planted.poisoned[i], SIDE), 0) for i in first]
    indices = torch.tensor([2, *first])
    clusters = torch.zeros(len(indices), dtype=torch.int64)
    met = examine("met", indices, [Place(Window(0, 0, 9), None), *places], clusters, found_by="search")
    return Judged(ranked(met, CleansingConfig()), TEMPLATES)


def joined(planted, examine, judged, triggers=(0,), suspicion=None, **values):
    count = len(planted.images)
    matches = find_matches(planted.images, [TEMPLATES[t] for t in triggers], QuietRun(), device=examine.device)
    doubt = torch.zeros(count) if suspicion is None else suspicion
    clusters = torch.arange(count) % 6
    return join_matching(judged, triggers, matches, doubt, clusters, examine, CleansingConfig(**values)).candidates


def test_images_with_the_pixels_join_with_their_windows_on_them(planted, examine):
    before = found_in(planted, examine, 5)
    candidates = joined(planted, examine, before)
    more = [c for c in candidates if c.found_by == "match"]
    shown = [i for i in planted.poisoned if i % 6 == 0]
    assert len(shown) < joining.OF_A_TRIGGER and len(candidates) == len(shown) + 1
    assert {c.index for c in more} == set(shown) - {c.index for c in before.candidates}
    assert all(c.window == Window(*planted.poisoned[c.index], SIDE) and c.group == 0 for c in more)
    assert [c.rank for c in candidates] == list(range(1, len(candidates) + 1))
    assert candidates[-1].index == 2 and candidates[-1].found_by == "search"
    # They are scored as the others were, each against its own cluster.
    assert all(c.score == pytest.approx(100 * float(TEMPLATES[0].mean()), abs=1e-3) for c in more)
    assert {c.cluster for c in more} == {0} and len(examine.flip_test.asked) == len(candidates)


def test_the_most_suspicious_come_first_and_there_is_an_end_to_it(planted, examine, monkeypatch):
    monkeypatch.setattr(joining, "OF_A_TRIGGER", 8)
    before = found_in(planted, examine, 5)
    unknown = [i for i in planted.poisoned if i % 6 == 0][5:]
    suspicion = torch.zeros(len(planted.images))
    suspicion[unknown[-3:]] = 1.0
    more = [c.index for c in joined(planted, examine, before, suspicion=suspicion) if c.found_by == "match"]
    assert sorted(more) == unknown[-3:]


def test_a_trigger_with_enough_candidates_takes_no_more(planted, examine, monkeypatch):
    monkeypatch.setattr(joining, "OF_A_TRIGGER", 5)
    before = found_in(planted, examine, 5)
    assert joined(planted, examine, before) == before.candidates


def test_each_trigger_gets_its_own(planted, examine):
    more = [c for c in joined(planted, examine, found_in(planted, examine, 5), (1, 0)) if c.found_by == "match"]
    assert {c.group for c in more} == {0, 1}
    assert all(c.index % 6 == c.group for c in more)


def test_a_size_that_the_user_has_set_stays(planted, examine):
    more = [c for c in joined(planted, examine, found_in(planted, examine, 5), window=8) if c.found_by == "match"]
    for candidate in more:
        top, left = planted.poisoned[candidate.index]
        assert candidate.window == Window(top - 1, left - 1, 8)
