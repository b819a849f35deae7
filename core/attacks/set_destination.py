"""Where a poisoned set goes: checked before the work, made aside, and put in its place at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.attacks.poison_truth import TRUTH_FILE, read_truth
from core.errors import UnsupportedInput, UsageError


def trigger_file(index: int) -> str:
    """The name of the file of trigger ``index``, beside the set."""
    return f"trigger-{index}.npz"


def check_destination(source: Path, output: Path, *, force: bool) -> None:
    """Refuse before the work what would fail after it, and whatever could destroy something; make the folder that
    ``output`` goes to where there is none.

    Raises:
        UsageError: ``output`` or a truth file beside it exists and ``force`` is not set, is of another form than
            ``source``, lies inside it, or its folder cannot be made. An existing folder is replaced only where the
            truth file beside it says that it is a poisoned set.
    """
    where, beside = output.absolute(), output.absolute().parent
    if not source.exists():
        return  # nothing is read, so nothing will be written; whoever opens it says so
    if source.is_dir() and output.suffix.lower() == ".zip":
        raise _refused(f"'{output}' for a folder of images", "the name of a folder", "Leave the suffix out.")
    if not source.is_dir() and output.suffix.lower() != ".zip":
        raise _refused(f"'{output}' for images in one file", "a name that ends in .zip", "Add the suffix.")
    inside, outside = where.resolve(), source.absolute().resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise _refused(f"'{output}', which is, holds or lies in the clean set", "another place", "Name another.")
    standing = [path for path in (output, beside / TRUTH_FILE, beside / trigger_file(0)) if os.path.lexists(path)]
    if standing and not force:
        raise _refused(f"'{standing[0]}', which exists", "a new place", "Use an empty folder, or add --force.")
    if os.path.lexists(output) and source.is_dir() != output.is_dir():
        raise _refused(f"'{output}', which is of another form", "a new place", "Name another, or remove it.")
    if output.is_dir() and not _is_ours(output):
        raise _refused(f"'{output}', no poisoned set as far as {TRUTH_FILE} says", "a new folder", "Name another.")
    try:
        beside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"no folder '{beside}', and none can be made ({error.strerror})"
        raise _refused(found, "a folder that is there or can be made", "Name another.") from error
    if not os.access(beside, os.W_OK | os.X_OK):
        raise _refused(f"no right to write into '{beside}'", "a writable folder", "Name another.")


@contextmanager
def workplace(output: Path) -> Iterator[Path]:
    """An empty folder beside ``output`` that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", suffix=".part", dir=output.absolute().parent) as name:
        yield Path(name)


def publish(work: Path, output: Path, triggers: int) -> None:
    """Move what was made in ``work`` (the set under its own name, the truth, the triggers) to its place.

    The set comes last: there is never a poisoned set without the file that says so.
    """
    beside = output.absolute().parent
    for index in range(triggers):
        os.replace(work / trigger_file(index), beside / trigger_file(index))
    surplus = triggers
    while (beside / trigger_file(surplus)).is_file():  # of an earlier set with more targets
        (beside / trigger_file(surplus)).unlink()
        surplus += 1
    os.replace(work / TRUTH_FILE, beside / TRUTH_FILE)
    if output.is_dir():
        os.replace(output, work / "replaced")
    os.replace(work / output.name, output)
    shutil.rmtree(work / "replaced", ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        return read_truth(folder.absolute().parent / TRUTH_FILE).set == folder.name
    except UnsupportedInput:
        return False


def _refused(found: str, expected: str, action: str) -> UsageError:
    return UsageError("invalid_destination", field="output", found=found, expected=expected, action=action)
