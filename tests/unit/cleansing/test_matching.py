"""Images that show the pixels of a trigger that was found."""

import pytest
import torch
from torch.nn import functional

from core.cleansing.matching import LEAST_CUT, best_concordance, match_scores, trigger_templates
from core.cleansing.result import Candidate, Window
from core.errors import Cancelled
from core.run import QuietRun
from tests.unit.cleansing.planted_set import SIDE, patch, planted_set

PATCH = patch().float() / 255


def candidate(images, index, top, left, side=SIDE, group=0):
    window = Window(top, left, side)
    pixels = images.pixels[index, :, top : top + side, left : left + side].clone()
    return Candidate(1, index, images.names[index], window, 0, 9.0, 9.0, 9.0, group, pixels, torch.zeros(32, 32))


@pytest.fixture(scope="module")
def planted():
    return planted_set()


def by_definition(image, template):
    """Lin's concordance of the template with every window, written out."""
    side = template.shape[-1]
    best = -1.0
    for top in range(image.shape[1] - side + 1):
        for left in range(image.shape[2] - side + 1):
            window = image[:, top : top + side, left : left + side]
            means, own = window.mean((1, 2)), template.mean((1, 2))
            a, b = window - means[:, None, None], template - own[:, None, None]
            noise = (6 / 255) ** 2
            below = a.square().mean() + b.square().mean() + 2 * noise + (means - own).square().mean()
            best = max(best, float(2 * (a * b).mean() / below))
    return best


def test_the_concordance_is_the_best_of_all_windows(planted):
    images = planted.images.batch(slice(0, 6))
    found = best_concordance(images, PATCH)
    for image, value in zip(images, found.tolist(), strict=True):
        assert value == pytest.approx(by_definition(image, PATCH), abs=1e-4)


def test_poisoned_images_match_and_others_do_not(planted):
    scores = match_scores(planted.images, [PATCH], QuietRun(), device=torch.device("cpu"))
    poisoned = torch.zeros(len(planted.images), dtype=torch.bool)
    poisoned[list(planted.poisoned)] = True
    assert float(scores[poisoned].min()) > 0.98
    assert float(scores[~poisoned].max()) < LEAST_CUT


def test_several_templates_give_the_best_of_each(planted):
    other = patch(5, 9).float() / 255
    device = torch.device("cpu")
    both = match_scores(planted.images, [PATCH, other], QuietRun(), device=device)
    single = [match_scores(planted.images, [one], QuietRun(), device=device) for one in (PATCH, other)]
    assert torch.equal(both, torch.maximum(*single))


def test_a_large_template_is_found_at_a_coarser_scale():
    template = functional.interpolate(PATCH[None], size=(36, 36), mode="bilinear")[0]
    images = planted_set(4, rate=0.0).images.batch(slice(None))
    large = functional.interpolate(images, size=(96, 96), mode="bilinear")
    stamped = large.clone()
    stamped[:, :, 11:47, 20:56] = template
    assert float(best_concordance(stamped, template).min()) > 0.98
    assert float(best_concordance(large, template).max()) < LEAST_CUT


def test_compression_and_faint_noise_do_not_hide_the_pixels(planted):
    images = planted.images.batch(torch.tensor(list(planted.poisoned)[:20]))
    noisy = (images + 4 / 255 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert float(best_concordance(noisy, PATCH).min()) > 0.9


def test_the_template_is_what_the_windows_have_in_common(planted):
    """Windows that are too large and askew: the template is the patch alone, whoever is the best of the group."""
    members = [
        candidate(planted.images, index, top - shift % 3, left - shift % 2, side=SIDE + 2)
        for shift, (index, (top, left)) in enumerate(list(planted.poisoned.items())[:12])
    ]
    (template,) = trigger_templates(planted.images, members, [0])
    assert template.shape == PATCH.shape
    assert torch.allclose(template, PATCH, atol=1 / 255)


def test_each_trigger_has_its_own_template():
    both = planted_set(triggers=2)
    members = [
        candidate(both.images, index, top, left, group=index % 6) for index, (top, left) in both.poisoned.items()
    ]
    found = trigger_templates(both.images, members, [0, 1])
    for template, number in zip(found, (0, 1), strict=True):
        assert torch.allclose(template, patch(number).float() / 255, atol=1 / 255)


def test_matching_can_be_cancelled(planted):
    class Stopped(QuietRun):
        def steps(self, stage, total, *, state=None):
            raise Cancelled
            yield

    with pytest.raises(Cancelled):
        match_scores(planted.images, [PATCH], Stopped(), device=torch.device("cpu"))
