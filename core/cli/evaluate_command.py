"""``evaluate``: accuracy, and the attack success rate where the trigger is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from core.cli.answer import Format, print_json, print_notes_on_images, print_reading
from core.cli.audit_commands import CardFile, CopyName, Debug, Device, EncoderFile, OutputFormat, Seed
from core.cli.console_run import ConsoleRun
from core.cli.evaluation_answer import print_evaluation_table
from core.cli.request_options import read_card
from core.errors import AuditError, UsageError

if TYPE_CHECKING:
    from core.encoders.load import LoadedEncoder
    from core.encoders.reading import Reading
    from core.evaluation.accuracy import KnownBackdoor
    from core.images.labelled import LabelledImages

Labelled = "Labelled images: a folder, zip or tar with one folder per class."


class Probe(StrEnum):
    """The names in ``core.evaluation.probes.ProbeName``, which cannot be imported without torch."""

    LINEAR = "linear"
    LINEAR_1PCT = "linear-1pct"
    MLP = "mlp"
    MLP_OFFICIAL = "mlp-official"
    KNN = "knn"


def evaluate(
    encoder: EncoderFile,
    train: Annotated[Path, typer.Option("--train", help=Labelled)],
    test: Annotated[Path, typer.Option("--test", help=Labelled)],
    trigger: Annotated[Path | None, typer.Option("--trigger", help="A known trigger (.npz).")] = None,
    target: Annotated[str | None, typer.Option("--target", help="The class it leads to: its name or number.")] = None,
    probe: Annotated[
        list[Probe] | None, typer.Option("--probe", help="Classifier to fit; repeatable. Default: linear and knn.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="ENCODER", help="A clean encoder to compare with.")
    ] = None,
    reference_card: Annotated[
        Path | None, typer.Option("--reference-card", help="JSON file that says what its weights are.")
    ] = None,
    limit_per_class: Annotated[
        int | None, typer.Option("--limit-per-class", metavar="N", min=1, help="Read at most N images of each class.")
    ] = None,
    card: CardFile = None,
    copy: CopyName = None,
    output_format: OutputFormat = Format.TABLE,
    seed: Seed = 0,
    device: Device = "auto",
    debug: Debug = False,
) -> int:
    """Measure clean accuracy, and with --trigger and --target the attack success rate.

    Classifiers are fitted to the encoder's features of the training images and read on the test images. With
    --reference the same is done to a clean encoder, and its success rate is subtracted. The exit status is 0 when the
    numbers could be measured, whatever they are.
    """
    if (trigger is None) != (target is None):
        raise _usage("trigger", "only one of --trigger and --target", "both or neither", "Add the other.")
    if reference is None and reference_card is not None:
        raise _usage("reference-card", "--reference-card without --reference", "both or neither", "Add the encoder.")
    from core.audit import failures_explained  # torch takes seconds to import, and --help must not
    from core.device import resolve_device
    from core.encoders.first_statistics import why_other_pixels
    from core.encoders.load import load_encoder
    from core.evaluation.accuracy import EvaluateConfig
    from core.evaluation.accuracy import evaluate as measure

    given, where = read_card(card), resolve_device(device)
    config = EvaluateConfig.model_validate({"probes": [p.value for p in probe]} if probe else {})
    with failures_explained(), ConsoleRun(Console(stderr=True)) as run:
        loaded, clean = load_encoder(encoder, card=given, copy=copy), None
        if reference is not None:
            with _naming({"encoder": "reference", "card": "reference-card"}):
                clean = load_encoder(reference, card=read_card(reference_card))
            _require_size_like(clean, train, {"encoder": "reference", "card": "reference-card"})
        _require_size_like(loaded, train, {})
        size = loaded.encoder.image_size
        training, testing = (
            _labelled(train, "train", size, limit_per_class),
            _labelled(test, "test", size, limit_per_class),
        )
        reading = loaded.reading.assuming(why_other_pixels(loaded.encoder, training.images))
        known = None if trigger is None or target is None else _known(trigger, target, training.classes, size)
        evaluation = measure(
            loaded.encoder.to(where),
            training,
            testing,
            known,
            config,
            run,
            reference=None if clean is None else clean.encoder.to(where),
            seed=seed,
        )
    if output_format is Format.JSON:
        named = {"encoder": _encoder_json(encoder, loaded, reading), "reference": None, "seed": seed}
        if reference is not None and clean is not None:
            named["reference"] = _encoder_json(reference, clean, clean.reading)
        print_json({**named, **asdict(evaluation)})
    else:
        print_reading(asdict(reading), word="Measured")
        if clean is not None:
            print_reading(asdict(clean.reading), word="Reference")
        print_notes_on_images(training.images.notes, word="Training images")
        print_notes_on_images(testing.images.notes, word="Test images")
        print_evaluation_table(evaluation)
    return 0


def _require_size_like(loaded: LoadedEncoder, images: Path, names: dict[str, str]) -> None:
    """Hold an input size that was only assumed against the images."""
    from core.encoders.size_of_images import require_size_like_images
    from core.images.sizes import usual_size

    if loaded.size_assumed:
        with _naming({"images": "train", **names}):
            require_size_like_images(loaded, usual_size(images))


def _encoder_json(path: Path, loaded: LoadedEncoder, reading: Reading) -> dict[str, object]:
    return {
        "name": path.name,
        "sha256": loaded.digest,
        "architecture": loaded.card.architecture,
        "audited": reading.audited,
        "assumptions": list(reading.assumptions),
    }


def _labelled(path: Path, option: str, size: tuple[int, int], limit_per_class: int | None) -> LabelledImages:
    from core.images.labelled import load_labelled

    # The loader's advice is for the unlabelled images of an audit.
    with _naming({"images": option}, action={"too_few_images": "Add images to the class folders."}):
        return load_labelled(path, size, limit_per_class=limit_per_class)


def _known(path: Path, target: str, classes: tuple[str, ...], size: tuple[int, int]) -> KnownBackdoor:
    import torch

    from core.evaluation.accuracy import KnownBackdoor
    from core.triggers import AdditiveTrigger, load_trigger

    if not path.is_file():
        raise _usage("trigger", f"no file at {path}", "a trigger file (.npz)", "Check the path.")
    trigger = load_trigger(path)
    pattern = trigger.delta if isinstance(trigger, AdditiveTrigger) else trigger.pattern
    if tuple(pattern.shape[-2:]) != size:
        found = "x".join(map(str, pattern.shape[-2:]))
        raise _usage("trigger", f"a trigger of {found} pixels", f"{size[0]}x{size[1]}, as the encoder", "Resize it.")
    try:
        stamped = trigger(torch.zeros(1, 3, *size))
        fits = stamped.shape == (1, 3, *size) and bool(torch.isfinite(stamped).all())
    except RuntimeError:
        fits = False
    if not fits:
        found = "arrays that cannot be put on an image of 3 channels, or numbers that are not finite"
        raise _usage("trigger", found, "arrays of one size, height x width x 3", "Correct the file.")
    # A class may itself be called "3": names go before numbers.
    if target in classes:
        return KnownBackdoor(trigger, classes.index(target))
    if target.isdecimal() and int(target) < len(classes):
        return KnownBackdoor(trigger, int(target))
    some = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    raise _usage("target", f"'{target}'", f"one of {some}, or its number from 0", "Choose one of these.")


@contextmanager
def _naming(fields: dict[str, str], action: dict[str, str] | None = None) -> Iterator[None]:
    """Let a problem name the option it came by: ``{"images": "train"}``; ``action`` is by the problem's code."""
    try:
        yield
    except AuditError as error:
        problem = error.problem
        first, dot, rest = problem.field.partition(".")
        raise type(error)(
            problem.code,
            field=fields.get(first, first) + dot + rest,
            found=problem.found,
            expected=problem.expected,
            action=(action or {}).get(problem.code, problem.action),
        ) from error


def _usage(field: str, found: str, expected: str, action: str) -> UsageError:
    return UsageError("invalid_argument", field=field, found=found, expected=expected, action=action)
