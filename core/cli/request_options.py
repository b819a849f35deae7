"""From options as they were typed to what ``core.audit`` takes: parameters, the card, the places to write to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UsageError
from core.memory_size import parse_size

TOP_LEVEL = ("preset", "budget", "seed", "archive")
CONTAINERS = (".safetensors", ".pt", ".pth")


def build_parameters(
    preset: str | None,
    method: str | None,
    settings: Sequence[str],
    *,
    section: str = "detection",
    budget: str | None = None,
) -> dict[str, Any]:
    """``--preset`` or ``--budget``, ``--method`` and each ``--set KEY=VALUE`` as the audit's parameters.

    A key is a path (``purification.steps``); one without a dot belongs to ``section`` (``steps``) unless it is a
    parameter of the whole audit (``seed``). A value is JSON where it reads as JSON and a string otherwise.

    Raises:
        UsageError: a setting that is not KEY=VALUE, or a path through a value.
    """
    parameters: dict[str, Any] = {} if preset is None else {"preset": preset}
    if budget is not None:
        parameters["budget"] = budget
    if method is not None:
        parameters[section] = {"method": method}
    for setting in settings:
        key, equals, text = setting.partition("=")
        path = key.split(".") if "." in key or key in TOP_LEVEL else [section, key]
        if not equals or not all(path):
            raise _bad_setting(setting)
        place = parameters
        for name in path[:-1]:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise _bad_setting(setting)
        place[path[-1]] = _value(text)
    return parameters


def read_card(path: Path | None) -> Mapping[str, Any] | None:
    """The encoder card in the JSON file ``path``; None without one.

    Raises:
        UsageError: the file does not exist or is not a JSON object.
    """
    if path is None:
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad_card(f"'{path}': {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _bad_card(f"'{path}', which is not JSON ({error})") from error
    if not isinstance(card, dict):
        raise _bad_card(f"'{path}', which holds no JSON object")
    return card


def require_output(output: Path | None) -> Path:
    """``--output``, which a dry run alone does without.

    Raises:
        UsageError: it was not given.
    """
    if output is None:
        raise UsageError(
            "usage",
            field="arguments",
            found="no option '--output'",
            expected="a place for the results",
            action="Add --output, or --dry-run to hear what it would cost.",
        )
    return output


def read_memory(size: str | None) -> int | None:
    """Bytes of ``--memory``; None without it.

    Raises:
        UsageError: it is not a size.
    """
    return None if size is None else parse_size(size)


def check_output(output: Path, encoder: Path, *, force: bool) -> None:
    """Refuse before the work what would fail after it; make the folder of ``output`` where there is none.

    An encoder that is a folder or a zip of one comes back as a folder, unless the suffix is .zip or .safetensors.

    Raises:
        UsageError: the file exists already, is the encoder itself, has no usable suffix, or its folder cannot be made.
    """
    suffix, folder = output.suffix.lower(), encoder.is_dir() or encoder.suffix.lower() == ".zip"
    if folder and suffix in CONTAINERS[1:]:
        raise _bad_place("output", f"the suffix '{suffix}'", "a folder, a .zip or a .safetensors file", "Rename it.")
    if not folder and suffix not in CONTAINERS:
        raise _bad_place("output", f"the suffix '{output.suffix}'", "one of " + ", ".join(CONTAINERS), "Rename it.")
    if output.exists() and encoder.exists() and output.samefile(encoder):
        raise _bad_place("output", "the encoder itself", "another file", "Name a new file; the input is never changed.")
    if output.is_dir() or (output.exists() and not force):
        raise _bad_place("output", f"'{output}', which exists", "a new file", "Name another, or add --force.")
    make_folder("output", output.absolute().parent)


def check_report_folder(folder: Path, *, force: bool) -> None:
    """Refuse a folder that cannot be made, or that holds a report which nobody asked to replace.

    Raises:
        UsageError: as said.
    """
    if folder.exists() and not folder.is_dir():
        raise _bad_place("report", f"'{folder}', which is a file", "a folder", "Name another.")
    if (folder / "report.json").exists() and not force:
        raise _bad_place("report", f"a report in '{folder}'", "a folder without one", "Name another, or add --force.")
    make_folder("report", folder if folder.exists() else folder.absolute().parent)


def check_output_folder(output: Path, dataset: Path, *, results: Sequence[str], force: bool) -> None:
    """Refuse before the work a folder for ``results`` that cannot be made, that has one of them already, or that lies
    inside the set: the next audit would take the results' pictures for images.

    Raises:
        UsageError: as said.
    """
    if output.exists() and not output.is_dir():
        raise _bad_place("output", f"'{output}', which is a file", "a folder", "Name another.")
    if dataset.is_dir() and dataset.resolve() in (output.resolve(), *output.resolve().parents):
        raise _bad_place("output", f"'{output}', which lies in the set", "another place", "Name a folder elsewhere.")
    standing = [name for name in results if (output / name).exists()]
    if standing and not force:
        found = f"'{output / standing[0]}', which exists"
        raise _bad_place("output", found, "a folder without results", "Name another, or add --force.")
    make_folder("output", output if output.exists() else output.absolute().parent)


def make_folder(field: str, folder: Path) -> None:
    """Make the folder that results go to, with those around it, before the work whose results they are.

    Raises:
        UsageError: it cannot be made or written to; ``field`` is the option that names it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"no folder '{folder}', and none can be made ({error.strerror})"
        raise _bad_place(field, found, "a folder that is there or can be made", "Name another.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _bad_place(field, f"no right to write into '{folder}'", "a writable folder", "Name another.")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _bad_setting(setting: str) -> UsageError:
    return UsageError(
        "invalid_setting",
        field="set",
        found=f"'{setting}'",
        expected="KEY=VALUE, as in --set steps=200 or --set purification.steps=500",
        action="Correct it; 'encoder-audit methods' lists the keys.",
    )


def _bad_card(found: str) -> UsageError:
    return UsageError(
        "invalid_card",
        field="card",
        found=found,
        expected="a JSON file with an encoder card",
        action="Correct the card.",
    )


def _bad_place(field: str, found: str, expected: str, action: str) -> UsageError:
    return UsageError("invalid_destination", field=field, found=found, expected=expected, action=action)
