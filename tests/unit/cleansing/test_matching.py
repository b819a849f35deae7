"""Images that show the pixels of a trigger that was found."""

import pytest
import torch
from torch.nn import functional

from core.cleansing.matching import LEAST_CUT, best_match, find_matches
from core.errors import Cancelled
from core.run import QuietRun
from tests.unit.cleansing.planted_set import patch, planted_set

PATCH = patch().float() / 255


@pytest.fixture(scope="module")
def planted():
    return planted_set()


def by_definition(image, template):
    """Lin's concordance of the template with every window, written out: the best, and where."""
    side = template.shape[-1]
    best, at = -1.0, (0, 0)
    for top in range(image.shape[1] - side + 1):
        for left in range(image.shape[2] - side + 1):
            window = image[:, top : top + side, left : left + side]
            means, own = window.mean((1, 2)), template.mean((1, 2))
            a, b = window - means[:, None, None], template - own[:, None, None]
            noise = (6 / 255) ** 2
            below = a.square().mean() + b.square().mean() + 2 * noise + (means - own).square().mean()
            value = float(2 * (a * b).mean() / below)
            if value > best:
                best, at = value, (top, left)
    return best, at


def test_the_concordance_is_the_best_of_all_windows(planted):
    images = planted.images.batch(slice(0, 6))
    found, corners = best_match(images, PATCH)
    for image, value, corner in zip(images, found.tolist(), corners.tolist(), strict=True):
        expected, at = by_definition(image, PATCH)
        assert value == pytest.approx(expected, abs=1e-4) and tuple(corner) == at


def test_poisoned_images_match_and_others_do_not(planted):
    scores = find_matches(planted.images, [PATCH], QuietRun(), device=torch.device("cpu")).score
    poisoned = torch.zeros(len(planted.images), dtype=torch.bool)
    poisoned[list(planted.poisoned)] = True
    assert float(scores[poisoned].min()) > 0.98
    assert float(scores[~poisoned].max()) < LEAST_CUT


def test_the_place_is_where_the_patch_was_pasted(planted):
    indices = list(planted.poisoned)
    _, corners = best_match(planted.images.batch(torch.tensor(indices)), PATCH)
    assert [tuple(corner) for corner in corners.tolist()] == [planted.poisoned[i] for i in indices]


def test_several_templates_give_the_best_of_each(planted):
    other = patch(5, 9).float() / 255
    device = torch.device("cpu")
    both = find_matches(planted.images, [PATCH, other], QuietRun(), device=device)
    single = [find_matches(planted.images, [one], QuietRun(), device=device) for one in (PATCH, other)]
    first, second = (one.score for one in single)
    assert torch.equal(both.score, torch.maximum(first, second))
    assert torch.equal(both.template == 1, second > first)
    at = torch.where((both.template == 1)[:, None], single[1].corner, single[0].corner)
    assert torch.equal(both.corner, at)


def test_a_large_template_is_found_at_a_coarser_scale():
    template = functional.interpolate(PATCH[None], size=(36, 36), mode="bilinear")[0]
    images = planted_set(4, rate=0.0).images.batch(slice(None))
    large = functional.interpolate(images, size=(96, 96), mode="bilinear")
    stamped = large.clone()
    stamped[:, :, 11:47, 20:56] = template
    assert float(best_match(stamped, template)[0].min()) > 0.98
    assert float(best_match(large, template)[0].max()) < LEAST_CUT


def test_compression_and_faint_noise_do_not_hide_the_pixels(planted):
    images = planted.images.batch(torch.tensor(list(planted.poisoned)[:20]))
    noisy = (images + 4 / 255 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert float(best_match(noisy, PATCH)[0].min()) > 0.9


def test_matching_can_be_cancelled(planted):
    class Stopped(QuietRun):
        def steps(self, stage, total, *, state=None):
            raise Cancelled
            yield

    with pytest.raises(Cancelled):
        find_matches(planted.images, [PATCH], Stopped(), device=torch.device("cpu"))
