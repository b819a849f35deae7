"""The part of the report's JSON that is about a set of images."""

from __future__ import annotations

from pydantic import Field

from core.cleansing.result import FoundBy
from core.report.parts import ReportPart


class CandidateRow(ReportPart):
    """A candidate trigger: a window of one image. Places are pixels of the image as it was read (``images`` at the
    encoder's ``image_size``), counted from its upper left corner."""

    rank: int
    name: str
    top: int
    left: int
    size: int = Field(description="Side of the window in pixels.")
    cluster: int
    score: float = Field(description="What it is ranked by, in flip images.")
    flips: float = Field(description="Flip images that it moves into its own cluster, net.")
    changed: float = Field(description="Flip images that change cluster at all.")
    group: int | None = Field(description="Candidates of one number show the same pixels; null: alone.")
    found_by: FoundBy = Field(
        description="search: among the images that moved most; match: it shows the pixels of such a group."
    )


class FlaggedRow(ReportPart):
    """An image that is not to be trained on."""

    name: str
    classifier_score: float = Field(description="Probability of poison by the poison classifier.")
    match_score: float | None = Field(
        description="How nearly it shows the pixels of a trigger that was found, at most 1; null: none was looked for."
    )
    poison_score: float | None = Field(description="In flip images; null where it was not scored.")
    cluster: int


class RoundRow(ReportPart):
    """One round of the search."""

    clusters: int = Field(description="Visited in this round.")
    dropped: int = Field(description="Left out after it.")
    scored: int = Field(description="Images scored in it.")
    best: float | None = Field(description="The best score after it, in flip images.")
    bar: float | None = Field(description="The worst score that is still among the k best; null while fewer exist.")


class DistributionPart(ReportPart):
    """How often each score of the poison classifier occurs."""

    edges: list[float]
    counts: list[int] = Field(description="Images between two edges.")
    cut: float = Field(description="Above it an image is removed.")


class DuplicatesPart(ReportPart):
    """Images whose pixels are identical, as they were read."""

    groups: int
    images: int
    largest: list[list[str]] = Field(description="Names in the 50 largest groups, 20 of each.")


class ThreatModelPart(ReportPart):
    """The encoder that was trained on the set because none was given. It is as poisoned as the set."""

    method: str
    steps: int
    epochs: float
    first_loss: float
    last_loss: float


class CleansingPart(ReportPart):
    """Which images may be trained on. keep.csv, removed.csv and candidates.csv have every row."""

    kept: int
    removed: int
    scored: int = Field(description="Images that the search looked at.")
    clusters: int
    flip_images: int = Field(description="Images on which a candidate window is pasted.")
    window: int = Field(description="Side of the search's windows in pixels; a candidate has its own.")
    candidates: list[CandidateRow] = Field(description="Best first.")
    flagged: list[FlaggedRow] = Field(description="The 100 removed images of the highest classifier scores.")
    rounds: list[RoundRow]
    distribution: DistributionPart | None = Field(description="null where no classifier was trained.")
    duplicates: DuplicatesPart
    threat_model: ThreatModelPart | None = Field(description="null where an encoder was given.")
    notes: list[str]
