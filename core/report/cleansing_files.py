"""The files of a cleansing: lists of what may be trained on and what may not, the candidates, and the cleaned set."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.cleansing.result import Cleansing
from core.encoders.save import save_encoder
from core.errors import AuditFailed
from core.images.archive import UnreadableMember
from core.images.load import open_members
from core.images.subset import write_subset
from core.kinds.findings import SetFindings
from core.report.artifacts import CLEANED, THREAT_MODEL, Artifact, Inputs
from core.report.cleansing import number, poison_score, ranked_removed
from core.report.cleansing_pictures import candidate_pictures, sheets
from core.report.pictures import Picture
from core.run import Run

_CSV = "text/csv; charset=utf-8"
_IMAGE_COLUMNS = ("name", "digest", "poison_score", "classifier_score", "match_score", "cluster", "top", "left", "size")
_CANDIDATE_COLUMNS = (
    "rank", "name", "top", "left", "size", "cluster", "score", "flips", "changed", "group", "found_by",
)  # fmt: skip

DIGEST_STAGE = "read the files again"
ARCHIVE_STAGE = "write the cleaned set"
_AT_A_TIME = 512
"""Files between two looks at the caller: a large set takes minutes."""

MEDIA_TYPES = {
    ".zip": "application/zip",
    ".npz": "application/zip",
    ".tar": "application/x-tar",
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".parquet": "application/vnd.apache.parquet",
}


def write_cleansing(
    findings: SetFindings, inputs: Inputs, output: Path, run: Run
) -> tuple[tuple[Artifact, ...], tuple[Picture, ...]]:
    """Write everything but the report into ``output``; the files, and the pictures for the page.

    Raises:
        AuditFailed: ``images_changed``, where an image can no longer be read.
    """
    found = findings.cleansing
    lists = [
        *_lists(findings, inputs, output, run),
        *_threat_model(findings, inputs, output),
        *_cleaned(findings, inputs, output, run),
    ]
    pictures = (*sheets(found, inputs.images), *candidate_pictures(found, inputs.images))
    for picture in pictures:
        (output / picture.name).write_bytes(picture.png)
    drawn = [Artifact(picture.name, output / picture.name, "image/png") for picture in pictures]
    return (*lists, *drawn), pictures


def _lists(findings: SetFindings, inputs: Inputs, output: Path, run: Run) -> list[Artifact]:
    found, images = findings.cleansing, inputs.images
    digests = _digests(inputs, run)
    kept = found.keep.nonzero().flatten().tolist()
    rows = {
        "keep.csv": (_IMAGE_COLUMNS, _image_rows(found, images.names, digests, kept)),
        "removed.csv": (_IMAGE_COLUMNS, _image_rows(found, images.names, digests, ranked_removed(found))),
        "candidates.csv": (_CANDIDATE_COLUMNS, _candidate_rows(found)),
        "duplicates.csv": (
            ("group", "name"),
            [(number, name) for number, group in enumerate(findings.duplicates, 1) for name in group],
        ),
        "unusable.csv": (("name", "reason"), [(image.name, image.reason) for image in images.rejected]),
    }
    return [_csv(output / name, columns, lines) for name, (columns, lines) in rows.items()]


def _csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Artifact:
    # A folder's names may be no UTF-8: their bytes are written as they are.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return Artifact(path.name, path, _CSV)


def _image_rows(
    found: Cleansing, names: tuple[str, ...], digests: list[str], indices: list[int]
) -> Iterable[Sequence[object]]:
    for index in indices:
        window = found.findings.window[index].tolist()
        yield (
            names[index],
            digests[index],
            _number(poison_score(found, index)),
            _number(number(found.findings.classifier_score[index])),
            _number(number(found.findings.match_score[index])),
            int(found.findings.cluster[index]),
            *(window if window[2] >= 0 else ("", "", "")),
        )


def _candidate_rows(found: Cleansing) -> Iterable[Sequence[object]]:
    for c in found.candidates:
        at = c.window
        numbers = (_number(c.score), _number(c.flips), _number(c.changed))
        group = "" if c.group is None else c.group
        yield c.rank, c.name, at.top, at.left, at.side, c.cluster, *numbers, group, c.found_by


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _digests(inputs: Inputs, run: Run) -> list[str]:
    """SHA-256 of each image file, in the order of the set; of an npz's image that of its pixels as a PPM file."""
    names, digests = inputs.images.names, []
    with _set_unchanged(inputs), open_members(inputs.images_path) as members:
        for step in run.steps(DIGEST_STAGE, -(-len(names) // _AT_A_TIME)):
            for name in names[step * _AT_A_TIME : (step + 1) * _AT_A_TIME]:
                digests.append(hashlib.sha256(members.read(name)).hexdigest())
    return digests


def _cleaned(findings: SetFindings, inputs: Inputs, output: Path, run: Run) -> list[Artifact]:
    if not findings.archive:
        return []
    names = [inputs.images.names[index] for index in findings.cleansing.keep.nonzero().flatten().tolist()]
    path = output / CLEANED
    with _set_unchanged(inputs):
        for _ in run.steps(ARCHIVE_STAGE, 1):
            path = write_subset(inputs.images_path, names, path)
    return [Artifact(path.name, path, MEDIA_TYPES.get(path.suffix, "inode/directory"))]


def _threat_model(findings: SetFindings, inputs: Inputs, output: Path) -> list[Artifact]:
    """The encoder that was trained for this audit: with it, the search can be repeated without the training."""
    if findings.training is None or inputs.subject.fresh is None:
        return []
    path = output / THREAT_MODEL
    # In full precision: a second audit with it must see what this one saw.
    save_encoder(path, findings.training.encoder, inputs.subject.fresh, half=False)
    return [Artifact(path.name, path, "application/octet-stream")]


@contextmanager
def _set_unchanged(inputs: Inputs) -> Iterator[None]:
    """The set is read a second time here; what could be read the first time must still be there."""
    try:
        yield
    except UnreadableMember as failure:
        raise AuditFailed(
            "images_changed",
            field="images",
            found=f"an image of {ascii(inputs.images_name)[1:-1][:100]} that could be read before: {failure}",
            expected="a set that stays as it is during the audit",
            action="Run the audit again while nothing writes to the set.",
        ) from failure
