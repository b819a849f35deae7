"""``evaluate``: accuracy, and the attack success rate where the trigger is known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.cli.answer import Format, print_json
from core.cli.audit_commands import CardFile, Debug, Device, EncoderFile, OutputFormat
from core.cli.console_run import ConsoleRun
from core.cli.request_options import read_card
from core.errors import UsageError

if TYPE_CHECKING:
    from core.evaluation.accuracy import Evaluation, KnownBackdoor

Labelled = "Labelled images: a zip or folder with one folder per class."


def evaluate(
    encoder: EncoderFile,
    train: Annotated[Path, typer.Option("--train", help=Labelled)],
    test: Annotated[Path, typer.Option("--test", help=Labelled)],
    trigger: Annotated[Path | None, typer.Option("--trigger", help="A known trigger (.npz).")] = None,
    target: Annotated[str | None, typer.Option("--target", help="The class it leads to: its name or number.")] = None,
    limit_per_class: Annotated[
        int | None, typer.Option("--limit-per-class", metavar="N", min=1, help="Read at most N images of each class.")
    ] = None,
    card: CardFile = None,
    output_format: OutputFormat = Format.TABLE,
    device: Device = "auto",
    debug: Debug = False,
) -> int:
    """Measure clean accuracy, and with --trigger and --target the attack success rate.

    A linear classifier is fitted to the encoder's features of the training images and read on the test images. The
    exit status is 0 when the numbers could be measured, whatever they are.
    """
    if (trigger is None) != (target is None):
        raise _usage("trigger", "only one of --trigger and --target", "both or neither", "Add the other.")
    from core.audit import failures_explained  # torch takes seconds to import, and --help must not
    from core.device import resolve_device
    from core.encoders.load import load_encoder
    from core.evaluation.accuracy import EvaluateConfig
    from core.evaluation.accuracy import evaluate as measure
    from core.images.labelled import load_labelled

    given, where = read_card(card), resolve_device(device)
    with failures_explained(), ConsoleRun(Console(stderr=True)) as run:
        loaded = load_encoder(encoder, card=given)
        size = loaded.encoder.image_size
        training = load_labelled(train, size, limit_per_class=limit_per_class)
        testing = load_labelled(test, size, limit_per_class=limit_per_class)
        known = None if trigger is None or target is None else _known(trigger, target, training.classes, size)
        evaluation = measure(loaded.encoder.to(where), training, testing, known, EvaluateConfig(), run)
    if output_format is Format.JSON:
        print_json({"encoder": {"name": encoder.name, "sha256": loaded.digest}, **asdict(evaluation)})
    else:
        _print_table(evaluation)
    return 0


def _known(path: Path, target: str, classes: tuple[str, ...], size: tuple[int, int]) -> KnownBackdoor:
    from core.evaluation.accuracy import KnownBackdoor
    from core.triggers import AdditiveTrigger, load_trigger

    if not path.is_file():
        raise _usage("trigger", f"no file at {path}", "a trigger file (.npz)", "Check the path.")
    trigger = load_trigger(path)
    pattern = trigger.delta if isinstance(trigger, AdditiveTrigger) else trigger.pattern
    if tuple(pattern.shape[-2:]) != size:
        found = "x".join(map(str, pattern.shape[-2:]))
        raise _usage("trigger", f"a trigger of {found} pixels", f"{size[0]}x{size[1]}, as the encoder", "Resize it.")
    # A class may itself be called "3": names go before numbers.
    if target in classes:
        return KnownBackdoor(trigger, classes.index(target))
    if target.isdecimal() and int(target) < len(classes):
        return KnownBackdoor(trigger, int(target))
    raise _usage("target", f"'{target}'", f"one of {', '.join(classes)}, or its number from 0", "Choose one of these.")


def _print_table(evaluation: Evaluation) -> None:
    table = Table(
        title=f"{evaluation.test_images} test images, {len(evaluation.classes)} classes", title_justify="left"
    )
    table.add_column("")
    for heading in ("per cent", "95% interval"):
        table.add_column(heading, justify="right")
    rows = {
        "clean accuracy (ACC), linear": evaluation.acc,
        "clean accuracy, kNN": evaluation.knn_acc,
        "attack success rate (ASR, asr_excl)": evaluation.asr,
        "called target without any trigger (base)": evaluation.base,
        "accuracy on triggered images": evaluation.triggered_acc,
    }
    for label, rate in rows.items():
        if rate is not None:
            table.add_row(label, f"{rate.percent:.1f}", f"{rate.low:.1f} to {rate.high:.1f}")
    if evaluation.net is not None:
        table.add_row("ASR - base, percentage points (net)", f"{evaluation.net:.1f}", "")
    Console().print(table)


def _usage(field: str, found: str, expected: str, action: str) -> UsageError:
    return UsageError("invalid_argument", field=field, found=found, expected=expected, action=action)
