"""A cleansing's part of the report and its page: what was found, and in every run what cannot be seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.cleansing.result import (
    OUT_OF_REACH,
    Candidate,
    Cleansing,
    ImageFindings,
    ScoreDistribution,
    SearchRound,
    Window,
)
from core.kinds.findings import SetFindings
from core.methods import Choice
from core.registry import CLEANSING, THREAT_MODELS
from core.report.build import build_report
from core.report.charts import HEIGHT, histogram
from core.report.cleansing import cleansing_part, poison_score, ranked_removed
from core.report.cleansing_pictures import candidate_pictures, sheets
from core.report.model import Report
from core.report.page import render_page, reproduce
from core.report.set_model import DistributionPart
from core.types import Verdict
from tests.unit import audited
from tests.unit.report.test_page import Page

COUNT = 60
IMAGES = audited.images(COUNT)


def found(verdict: Verdict = Verdict.POISONED) -> Cleansing:
    """Three images removed, two candidates that look alike and one alone."""
    keep = torch.ones(COUNT, dtype=torch.bool)
    keep[[4, 9, 30]] = False
    classifier = torch.full((COUNT,), 0.1)
    classifier[[4, 9, 30]] = torch.tensor([0.7, 0.99, 0.8])
    match = torch.full((COUNT,), 0.3)
    match[[4, 9]] = torch.tensor([0.97, 1.0])
    scores = torch.full((COUNT,), torch.nan)
    scores[[9, 4, 17]] = torch.tensor([40.0, 31.0, 2.0])
    window = torch.full((COUNT, 3), -1)
    window[[9, 4, 17]] = torch.tensor([[3, 5, 6], [10, 2, 6], [0, 26, 6]])
    candidates = tuple(
        Candidate(
            rank=rank,
            index=index,
            name=IMAGES.names[index],
            window=Window(*window[index].tolist()),
            cluster=2,
            score=float(scores[index]),
            flips=float(scores[index]),
            changed=50.0,
            group=None if index == 17 else 0,
            found_by="match" if index == 4 else "search",
            patch=IMAGES.pixels[index, :, :6, :6],
            attention=torch.linspace(0, 1, 32 * 32).view(32, 32),
        )
        for rank, index in enumerate((9, 4, 17), start=1)
    )
    return Cleansing(
        method="poison_cam",
        verdict=verdict,
        reasons=("Two windows show the same 6x6 pixels.",),
        keep=keep,
        findings=ImageFindings(scores, window, torch.arange(COUNT) % 5, classifier, match),
        candidates=candidates,
        rounds=(SearchRound(5, 1, 2, 31.0, None), SearchRound(4, 0, 1, 40.0, 2.0)),
        distribution=ScoreDistribution((0.0, 0.5, 1.0), (57, 3), 0.5),
        flip_images=64,
        clusters=5,
        window=6,
        notes=("Encoder passes in fp32.",),
    )


def nothing() -> Cleansing:
    """A set of plain images: no search could be carried out."""
    nan = torch.full((COUNT,), torch.nan)
    return replace(
        found(Verdict.INCONCLUSIVE),
        keep=torch.ones(COUNT, dtype=torch.bool),
        findings=ImageFindings(nan, torch.full((COUNT, 3), -1), torch.zeros(COUNT, dtype=torch.int64), nan, nan),
        candidates=(),
        rounds=(),
        distribution=None,
    )


def reported(cleansing: Cleansing, duplicates: tuple[tuple[str, ...], ...] = ()) -> Report:
    chosen = {
        "cleansing": Choice(CLEANSING[0], "default", CLEANSING[0].config()),
        "threat_model": Choice(THREAT_MODELS[0], "default", THREAT_MODELS[0].config()),
    }
    about = replace(audited.circumstances("cleanse"), chosen=chosen, image_names=IMAGES.names)
    return build_report(SetFindings(cleansing, None, duplicates, False), about)


def page(cleansing: Cleansing, duplicates: tuple[tuple[str, ...], ...] = ()) -> Page:
    pictures = (*sheets(cleansing, IMAGES), *candidate_pictures(cleansing, IMAGES))
    return Page(render_page(reported(cleansing, duplicates), pictures))


def test_removed_images_stand_by_their_score() -> None:
    assert ranked_removed(found()) == [9, 30, 4]
    assert poison_score(found(), 9) == 40.0 and poison_score(found(), 30) is None
    part = cleansing_part(
        SetFindings(found(), None, (), False),
        IMAGES.names,
        Choice(THREAT_MODELS[0], "default", THREAT_MODELS[0].config()),
    )
    assert [row.name for row in part.flagged] == ["009.png", "030.png", "004.png"]
    assert [row.match_score for row in part.flagged] == pytest.approx([1.0, 0.3, 0.97])
    assert (part.removed, part.kept, part.scored) == (3, COUNT - 3, 3)


@pytest.mark.parametrize("cleansing", [found(), found(Verdict.CLEAN), nothing()], ids=["poisoned", "clean", "nothing"])
def test_every_page_says_what_cannot_be_seen(cleansing: Cleansing) -> None:
    shown = page(cleansing)
    assert "What this method cannot see." in shown.text
    assert all(sentence in shown.text for sentence in OUT_OF_REACH)
    assert cleansing.verdict.value.capitalize() in shown.text
    assert all(image["alt"] for image in shown.all("img"))


def test_the_page_shows_windows_patches_scores_and_rounds() -> None:
    shown = page(found(), (("000.png", "001.png"),))
    assert len(shown.all("img")) == 2 + 3  # the patches, the removed images, and one picture for each candidate
    for text in ("6×6 at row 3, column 5", "flips 40 of 64", "group 1", "alone", "2 rounds", "000.png, 001.png"):
        assert text in shown.text
    assert "notes.txt" in shown.text  # the file that is no image
    (drawing,) = shown.all("svg")
    assert "3 of 60 images lie above the cut" in (drawing["aria-label"] or "")


def test_a_name_that_looks_like_markup_stays_text() -> None:
    hostile = "<img src=x onerror=alert(1)>.png"
    first = replace(found().candidates[0], name=hostile)
    shown = page(replace(found(), candidates=(first, *found().candidates[1:])), ((hostile, "b.png"),))
    assert hostile in shown.text and all("onerror" not in image for image in shown.all("img"))


def test_the_encoders_methods_are_named_only_where_they_ran() -> None:
    report = reported(found())
    assert list(report.methods) == ["cleansing"] and report.cleansing is not None
    words = reproduce(report)
    assert words.startswith("encoder-audit cleanse shadow.zip --encoder resnet18-simclr.safetensors --output cleansed")
    assert "--set cleansing.method=poison_cam" in words


def test_one_image_is_seen_beside_thousands() -> None:
    drawn = histogram(DistributionPart(edges=[0.0, 0.5, 0.75, 1.0], counts=[20000, 0, 1], cut=0.5))
    assert [bar.over for bar in drawn.bars] == [False, True]
    assert drawn.bars[0].height == HEIGHT and drawn.bars[1].height > 5
    assert drawn.bars[1].y + drawn.bars[1].height == pytest.approx(HEIGHT)
