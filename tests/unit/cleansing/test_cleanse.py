"""The whole pipeline on the planted set, where the truth is known, and on its clean twin."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from core.checkpoint import load_checkpoint, save_checkpoint
from core.cleansing import patch_search, poison_cam
from core.cleansing.matching import LEAST_CUT
from core.cleansing.patch_search import PatchSearchConfig
from core.cleansing.poison_cam import PoisonCamConfig
from core.cleansing.result import OUT_OF_REACH, Cleansing
from core.errors import Cancelled, UnsupportedInput
from core.passes import TYPICAL
from core.run import QuietRun, Stateful
from core.types import ImageSet, Verdict
from tests.unit.cleansing.planted_set import SIDE, PlantedSet, covered, encoder, planted_set

SMALL: dict[str, Any] = {
    "clusters": 12,
    "samples_per_cluster": 4,
    "flip_images": 48,
    "first_flips": 16,
    "classifiers": 2,
    "classifier_width": 8,
    "classifier_steps": 150,
    "classifier_batch": 64,
    "classifier_rate": 0.03,
}
CONFIG = PoisonCamConfig(masks=100, **SMALL)
BRIEF = CONFIG.model_copy(update={"masks": 36, "samples_per_cluster": 3, "classifier_steps": 20})
"""All stages, too short for a good answer: for what holds of any answer."""


@pytest.fixture(scope="module")
def planted() -> PlantedSet:
    return planted_set()


@pytest.fixture(scope="module")
def result(planted: PlantedSet) -> Cleansing:
    return poison_cam.cleanse(planted.encoder, planted.images, CONFIG, QuietRun(), seed=0)


@pytest.fixture(scope="module")
def brief(planted: PlantedSet) -> Cleansing:
    return poison_cam.cleanse(planted.encoder, planted.images, BRIEF, QuietRun(), seed=0)


def test_the_poisoned_set_is_found_out(planted: PlantedSet, result: Cleansing) -> None:
    assert result.verdict is Verdict.POISONED
    assert any("show the same" in reason for reason in result.reasons)
    hits = [covered(planted, c.index, c.window.top, c.window.left, c.window.side) >= 0.5 for c in result.candidates]
    assert all(hits[:20])
    removed = set((~result.keep).nonzero().flatten().tolist())
    found = len(removed & planted.poisoned.keys())
    assert found == len(planted.poisoned)
    assert found >= 0.85 * len(removed) and result.removed == len(removed)


def test_the_window_takes_the_triggers_size(result: Cleansing) -> None:
    sides = [candidate.window.side for candidate in result.candidates if candidate.group == 0]
    assert len(sides) >= 10 and set(sides) <= {SIDE - 1, SIDE, SIDE + 1}


def test_every_image_has_its_row(planted: PlantedSet, result: Cleansing) -> None:
    count = len(planted.images)
    found = result.findings
    assert len(result.keep) == len(found.poison_score) == len(found.cluster) == len(found.classifier_score) == count
    scored = ~found.poison_score.isnan()
    assert torch.equal(scored, found.window[:, 2] >= 0) and result.scored == int(scored.sum())
    # Beside the images of the search, those candidates were scored that it had not met.
    assert result.scored >= sum(r.scored for r in result.rounds)
    assert result.distribution is not None and sum(result.distribution.counts) == count
    flagged, matched = found.classifier_score > result.distribution.cut, found.match_score > LEAST_CUT
    assert torch.equal(result.keep, ~(flagged | matched))
    assert set(matched.nonzero().flatten().tolist()) == planted.poisoned.keys()
    assert f"{len(planted.poisoned)} images show the pixels" in " ".join(result.notes)
    # The classifier by itself finds nearly all of them, as it must where no pixels are the same twice.
    assert float(flagged[list(planted.poisoned)].float().mean()) >= 0.95
    assert [c.rank for c in result.candidates] == list(range(1, len(result.candidates) + 1))
    first = result.candidates[0]
    at = first.window
    expected = planted.images.pixels[first.index, :, at.top : at.top + at.side, at.left : at.left + at.side]
    assert torch.equal(first.patch, expected) and first.attention.shape == (32, 32)
    assert first.name == planted.images.names[first.index]
    assert result.out_of_reach == OUT_OF_REACH


def test_a_clean_set_stays_whole() -> None:
    clean = planted_set(rate=0.0)
    result = poison_cam.cleanse(encoder([]), clean.images, CONFIG, QuietRun(), seed=0)
    assert result.verdict is Verdict.CLEAN
    assert bool(result.keep.all()) and result.removed == 0 and result.distribution is None
    assert bool(result.findings.classifier_score.isnan().all()) and bool(result.findings.match_score.isnan().all())


def test_two_triggers_are_both_found() -> None:
    both = planted_set(triggers=2)
    result = poison_cam.cleanse(both.encoder, both.images, CONFIG, QuietRun(), seed=0)
    assert result.verdict is Verdict.POISONED and len(result.reasons) >= 2
    for colour in (0, 1):
        poisoned = [i for i in both.poisoned if i % 6 == colour]
        assert not bool(result.keep[poisoned].any())
    assert float((~result.keep).sum()) <= 1.2 * len(both.poisoned)


def test_the_papers_form_removes_whatever_the_verdict() -> None:
    clean = planted_set(rate=0.0)
    config = BRIEF.model_copy(update={"remove_always": True, "groups_first": False})
    result = poison_cam.cleanse(encoder([]), clean.images, config, QuietRun(), seed=0)
    assert result.verdict is not Verdict.POISONED
    assert result.distribution is not None
    assert torch.equal(result.keep, result.findings.classifier_score <= result.distribution.cut)


def test_patch_search_runs_the_same_pipeline(planted: PlantedSet) -> None:
    config = PatchSearchConfig(**SMALL)
    result = patch_search.cleanse(planted.encoder, planted.images, config, QuietRun(), seed=0)
    assert result.method == "patch_search" and result.scored > 0
    hits = [covered(planted, c.index, c.window.top, c.window.left, c.window.side) >= 0.5 for c in result.candidates]
    assert any(hits[:5])


def test_images_of_one_colour_are_inconclusive() -> None:
    blank = ImageSet(torch.full((200, 3, 32, 32), 90, dtype=torch.uint8), tuple(map(str, range(200))), "00" * 32)
    result = poison_cam.cleanse(encoder([]), blank, CONFIG, QuietRun(), seed=0)
    assert result.verdict is Verdict.INCONCLUSIVE and bool(result.keep.all())
    assert "one plain colour" in result.reasons[0]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UnsupportedInput) as refused:
        poison_cam.cleanse(encoder([]), planted_set(30).images, CONFIG, QuietRun(), seed=0)
    assert refused.value.problem.code == "too_few_images"


def test_the_callers_encoder_and_images_are_unchanged(planted: PlantedSet, result: Cleansing) -> None:
    fresh = planted_set()
    assert torch.equal(planted.images.pixels, fresh.images.pixels)
    for name, value in planted.encoder.state_dict().items():
        assert torch.equal(value, fresh.encoder.state_dict()[name])
    assert all(parameter.requires_grad for parameter in planted.encoder.parameters())


class SavingRun:
    """Saves each stage after every step; starts from what is saved; is cancelled after ``stop_after`` steps."""

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        self.taken = 0
        self.names: list[str] = []
        self._folder = folder
        self._stop_after = stop_after

    def plan(self, stages: Mapping[str, float]) -> None:
        pass

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        assert name not in self.names
        self.names.append(name)
        path = self._folder / name.replace(" ", "-")
        done = 0
        if state is not None and path.exists():
            saved = load_checkpoint(path)
            done = saved["step"]
            state.load_state_dict(saved["state"])
        for step in range(done, total):
            if self.taken == self._stop_after:
                raise Cancelled
            yield step
            self.taken += 1
            if state is not None:
                save_checkpoint(path, {"step": step + 1, "state": state.state_dict()})

    def log(self, **scalars: float) -> None:
        assert all(isinstance(value, float) for value in scalars.values())


@pytest.mark.parametrize("stop_after", [3, 6, 11, 30])
def test_an_interrupted_run_ends_like_an_unbroken_one(
    stop_after: int, planted: PlantedSet, brief: Cleansing, tmp_path: Path
) -> None:
    # Features: one step; clusters: one; search: seven rounds of one step; one or two of judging; training: forty.
    with pytest.raises(Cancelled):
        poison_cam.cleanse(planted.encoder, planted.images, BRIEF, SavingRun(tmp_path, stop_after), seed=0)
    resumed = poison_cam.cleanse(planted.encoder, planted.images, BRIEF, SavingRun(tmp_path), seed=0)
    assert_same(resumed, brief)


def test_same_seed_same_result_whatever_the_global_generator(planted: PlantedSet, brief: Cleansing) -> None:
    torch.manual_seed(5)
    assert_same(poison_cam.cleanse(planted.encoder, planted.images, BRIEF, QuietRun(), seed=0), brief)


def test_the_plan_names_every_stage(planted: PlantedSet, tmp_path: Path) -> None:
    run = SavingRun(tmp_path)
    poison_cam.cleanse(copy.deepcopy(planted.encoder), planted.images, BRIEF, run, seed=1)
    assert run.names == list(poison_cam.stage_plan(BRIEF, TYPICAL))


@pytest.mark.parametrize("config", [PoisonCamConfig, PatchSearchConfig])
def test_presets_are_valid_and_survive_json(config: type[PoisonCamConfig] | type[PatchSearchConfig]) -> None:
    for values in ({}, *config.presets.values()):
        made = config.model_validate(values)
        assert config.model_validate_json(made.model_dump_json()) == made


def assert_same(first: Cleansing, second: Cleansing) -> None:
    assert first.verdict == second.verdict and first.reasons == second.reasons and first.rounds == second.rounds
    assert torch.equal(first.keep, second.keep)
    for name in ("poison_score", "window", "cluster", "classifier_score", "match_score"):
        one, other = getattr(first.findings, name), getattr(second.findings, name)
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    for one, other in zip(first.candidates, second.candidates, strict=True):
        fields = ("index", "window", "score", "group", "found_by")
        assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]


def test_what_a_short_search_did_not_meet_is_found_by_its_pixels(planted: PlantedSet) -> None:
    """It looks at 40 of 480 images; the verdict is its own, the ranking is filled up with what shows the same."""
    brief = {"samples_per_cluster": 2, "drop_fraction": 0.6, "classifier_steps": 20, "classifiers": 1}
    result = poison_cam.cleanse(planted.encoder, planted.images, CONFIG.model_copy(update=brief), QuietRun(), seed=0)
    of_trigger = [candidate for candidate in result.candidates if candidate.group == 0]
    met = [candidate for candidate in of_trigger if candidate.found_by == "search"]
    assert result.verdict is Verdict.POISONED and f"{len(met)} of the" in result.reasons[0]
    assert len(met) < 20 and {c.index for c in of_trigger} == planted.poisoned.keys()
    assert result.candidates[: len(of_trigger)] == tuple(of_trigger)
    assert all(bool(result.findings.window[c.index, 2] == c.window.side) for c in of_trigger)
