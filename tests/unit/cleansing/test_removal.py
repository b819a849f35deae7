"""Where the classifier's scores are cut, with and without images that are known by their pixels."""

import torch

from core.cleansing.cut import LARGEST_BESIDE_MATCHES, LARGEST_CUT
from core.cleansing.removal import place_of_cut

CLEAN = torch.cat([torch.linspace(0, 0.5, 900), torch.linspace(0.5, 0.93, 60)])
NONE = torch.zeros(len(CLEAN) + 100, dtype=torch.bool)
LAST = torch.arange(len(NONE)) >= len(CLEAN)
FOUND = torch.arange(len(NONE))[-20:]


def test_without_matches_the_cut_stays_where_it_was():
    scores = torch.cat([CLEAN, torch.full((100,), 0.99)])
    assert place_of_cut(scores, NONE, FOUND) <= LARGEST_CUT


def test_a_classifier_that_is_sure_of_what_pixels_show_must_be_sure_of_the_rest():
    scores = torch.cat([CLEAN, torch.full((100,), 0.999)])
    assert 0.93 < place_of_cut(scores, LAST, FOUND) <= LARGEST_BESIDE_MATCHES


def test_one_that_is_not_sure_is_not_asked_for_more():
    scores = torch.cat([CLEAN, torch.linspace(0.6, 0.9, 100)])
    assert place_of_cut(scores, LAST, FOUND) <= 0.64


def test_a_trigger_whose_pixels_differ_is_still_flagged():
    """Half of the poisoned images show the trigger at another size: no match, but the classifier knows them."""
    scores = torch.cat([CLEAN, torch.linspace(0.96, 1, 100)])
    matched = LAST & (torch.arange(len(LAST)) % 2 == 0)
    place = place_of_cut(scores, matched, FOUND)
    others = LAST & ~matched
    assert float((scores[others] > place).float().mean()) >= 0.9
