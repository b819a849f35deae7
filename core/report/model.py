"""The report's JSON, ``encoder-audit/report/1``. Its schema is published as ``api/contract/report.schema.json``.

Additions keep the number; a field that changes its meaning or goes away raises it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from core.report.parts import ReportPart, Sha256
from core.report.set_model import CleansingPart
from core.types import Verdict


class HypothesisRow(ReportPart):
    """One kind of trigger that was looked for."""

    name: str = Field(description="For people; it may hold sizes in pixels.")
    kind: str = Field(
        "", description="The kind of trigger and its bound relative to the image, the same at every image size."
    )
    score: float = Field(description="The statistic that counts; larger is more suspicious.")
    threshold: float = Field(description="From here on the hypothesis is held to be true.")
    scores: list[float] = Field(description="The statistic of each restart: its spread is the uncertainty.")
    expected: float | None = Field(None, description="What clean encoders usually score, where that was measured.")
    doubtful: float | None = Field(None, description="From here on the hypothesis is not ruled out.")
    excess: float | None = Field(
        None, description="How far the score is beyond the threshold, on the scale of ln(1 - score)."
    )
    whole: float | None = Field(
        None,
        description="The mean pairwise cosine of which `score` is what remains without the effect of the same trigger "
        "elsewhere in the image; absent where nothing is taken off.",
    )
    null: str | None = Field(None, description="The clean encoders that the threshold comes from.")
    blown_up: list[float] = Field(
        [],
        description="Those of `scores` that prove nothing: their triggers drive the encoder out of its range, to "
        "features many times as long as those of images.",
    )


class TriggerRow(ReportPart):
    """A candidate trigger, best first."""

    hypothesis: str
    similarity: float = Field(description="Mean pairwise cosine of triggered features on images its search never saw.")
    size: float
    size_unit: str
    area: float = Field(description="Fraction of the image's pixels that it changes.")


class EncoderPart(ReportPart):
    """The encoder that was audited, or by which a set was judged."""

    name: str
    sha256: Sha256
    bytes: int
    architecture: str
    parameters: int = Field(description="Number of weights of the backbone.")
    feature_dim: int
    image_size: tuple[int, int] = Field(description="Height and width in pixels.")
    dropped_keys: list[str] = Field(description="Weights in the file that are no part of the backbone (heads).")
    audited: str = Field(
        description="What was read, in a sentence: architecture, input size and normalisation, and who said so."
    )
    assumptions: list[str] = Field(
        description="What had to be assumed to read the file and, if it is wrong, changes every feature."
    )
    notes: list[str] = Field(description="What was noticed and changes no feature.")


class RejectedRow(ReportPart):
    """An image that could not be used."""

    name: str
    reason: str


class ImagesPart(ReportPart):
    """The images that were used."""

    name: str
    count: int
    distinct: int = Field(description="How many of them have pixels that no other has before them.")
    rejected: list[RejectedRow]
    notes: list[str] = Field([], description="How the set was read, where that had to be decided or is of weight.")
    digest: Sha256 = Field(description="SHA-256 over names and decoded pixels.")


class MethodPart(ReportPart):
    """A method as it ran: every parameter, not only those that were set."""

    key: str
    title: str
    preset: str
    overrides: dict[str, Any] = Field(description="What was set by hand, over the preset.")
    config: dict[str, Any]


class PurificationPart(ReportPart):
    """What became of the encoder. ``performed`` is false where there was nothing to unlearn: the encoder is then
    delivered as it came and the numbers are null."""

    performed: bool
    explanation: str
    verdict_before: Verdict
    score_before: float | None
    threshold_before: float | None
    decided_by_before: str | None = Field(description="The kind of trigger whose score that is, a row's name.")
    verdict: Verdict = Field(description="Of the encoder that is delivered, by the same detection.")
    score: float | None
    threshold: float | None
    decided_by: str | None = Field(
        description="As decided_by_before. Scores of different kinds of trigger, or methods, cannot be compared; what "
        "they are worth is told by their thresholds."
    )
    sha256: Sha256 = Field(description="Of the delivered file.")
    drift: float | None = Field(description="1 - mean cosine of purified and original features on held-back images.")
    neighbour_agreement: float | None = Field(description="Share of nearest neighbours that stayed the same.")
    initial_similarity: float | None = Field(description="Mean pairwise cosine of triggered features before.")
    residual_similarity: float | None = Field(description="The same after unlearning.")
    steps: int | None
    loss: list[float] = Field(description="Training loss, thinned to at most 200 points.")
    hypotheses: list[HypothesisRow] = Field(description="The second detection, on the purified encoder.")
    notes: list[str]


class CanaryRow(ReportPart):
    """A known backdoor, planted in a copy of the encoder to see whether the detection finds it."""

    name: str
    planted: bool = Field(description="Whether the backdoor took. If not, nothing was learnt from it.")
    attraction: float = Field(description="Mean cosine of triggered features to the reference's, on unseen images.")
    kept: float = Field(description="Mean cosine of clean features before and after planting, on unseen images.")
    found: bool = Field(description="Whether the detection called the copy backdoored.")
    verdict: Verdict | None
    score: float | None
    threshold: float | None


class CanariesPart(ReportPart):
    """What the detection could have seen on this encoder."""

    planted: int
    found: int
    sentence: str
    rows: list[CanaryRow]


class StageRow(ReportPart):
    """Where the time went. A resumed audit counts only the time since it was resumed."""

    name: str
    steps: int
    seconds: float


class VersionsPart(ReportPart):
    encoder_audit: str
    torch: str
    python: str


class ArtifactRow(ReportPart):
    """A file that belongs to this report, beside it."""

    name: str
    media_type: str
    bytes: int
    sha256: Sha256


class Report(ReportPart):
    """One audit. ``verdict``, ``score`` and ``threshold`` are about what was given: the encoder, or where there is a
    part ``cleansing`` the set of images, for which no single score decides."""

    schema_: Literal["encoder-audit/report/1"] = Field("encoder-audit/report/1", alias="schema")
    kind: str
    encoder: EncoderPart
    verdict: Verdict
    score: float | None
    threshold: float | None
    margin: float | None = Field(description="score - threshold, in the score's unit.")
    reasons: list[str]
    untested: list[str] = Field(description="What was not looked for; the verdict says nothing about it.")
    clean_similarity: float | None = Field(description="Mean pairwise cosine of clean features: the floor of scores.")
    hypotheses: list[HypothesisRow]
    triggers: list[TriggerRow]
    images: ImagesPart
    purification: PurificationPart | None
    canaries: CanariesPart | None = Field(None, description="Known backdoors that were planted and looked for.")
    cleansing: CleansingPart | None = Field(None, description="Which images of the set may be trained on, and why.")
    methods: dict[str, MethodPart] = Field(description="Step of the audit -> the method that did it.")
    seed: int
    device: str
    versions: VersionsPart
    started: str = Field(description="UTC, RFC 3339.")
    elapsed_seconds: float
    stages: list[StageRow]
    artifacts: list[ArtifactRow]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, by the published names."""
        return self.model_dump(mode="json", by_alias=True)
