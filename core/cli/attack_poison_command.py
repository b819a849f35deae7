"""``attack poison``: a poisoned copy of a data set, with the truth about it, to test an audit or a defence on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.cli.answer import Format, print_json
from core.cli.audit_commands import Debug, Force, OutputFormat, Preset, Seed, SetValues
from core.cli.console_run import ConsoleRun
from core.cli.method_settings import read_settings
from core.errors import UsageError

if TYPE_CHECKING:
    from core.attacks.poisoned_set import PoisonedSet
    from core.attacks.trigger_spec import TriggerSpec

_ATTACKS = "ssl-backdoor, ctrl, noise, poisoned-encoder or corrupt-encoder."
_TRIGGER = (
    "Its trigger: white-patch, colour-patch, noise-patch, spectral, noise or blended, with settings as in "
    "colour-patch:side=8,seed=3. Once for each --target, or not at all."
)


def poison(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Labelled images: a folder, zip or tar of classes.")
    ],
    method: Annotated[str, typer.Option("--method", help=f"The attack: {_ATTACKS}")],
    target: Annotated[list[str], typer.Option("--target", metavar="CLASS", help="Class to lead to; repeatable.")],
    output: Annotated[
        Path, typer.Option("--output", metavar="POISONED", help="The poisoned set, in the form of DATASET.")
    ],
    trigger: Annotated[list[str] | None, typer.Option("--trigger", metavar="SPEC", help=_TRIGGER)] = None,
    preset: Preset = None,
    settings: SetValues = None,
    seed: Seed = 0,
    output_format: OutputFormat = Format.TABLE,
    force: Force = False,
    debug: Debug = False,
) -> int:
    """Poison a labelled image set with a published attack.

    Beside the poisoned set stand truth.json, which says what was done to which image, and trigger-0.npz and so on. All
    images are written anew as PNG, so that only pixels tell poisoned from clean.
    """
    from core.attacks.poisoning import find_poisoning  # torch takes seconds to import, and --help must not
    from core.attacks.poisoning import poison as run_attack
    from core.audit import failures_explained

    attack = find_poisoning(method)
    values = {**attack.preset(preset or "default"), **read_settings(settings or [], "poison_rate=0.5")}
    specs = _triggers(trigger or [], [attack.default_trigger(preset or "default", i) for i in range(len(target))])
    pairs = list(zip(target, specs, strict=True))
    with failures_explained(), ConsoleRun(Console(stderr=True)) as run:
        poisoned = run_attack(dataset, output, pairs, attack.key, values, run, seed=seed, force=force)
    if output_format is Format.JSON:
        print_json(_summary(attack.key, seed, pairs, poisoned))
    else:
        _print_table(attack.title, pairs, poisoned)
    _print_sentences(poisoned)
    return 0


def _triggers(texts: Sequence[str], defaults: Sequence[TriggerSpec]) -> Sequence[TriggerSpec]:
    from core.attacks.trigger_spec import parse_trigger

    if not texts:
        return defaults
    if len(texts) != len(defaults):
        raise UsageError(
            "invalid_argument",
            field="trigger",
            found=f"{len(defaults)} --target and {len(texts)} --trigger",
            expected="one trigger for each target, or none at all",
            action="Pair them, in the same order.",
        )
    return [parse_trigger(text) for text in texts]


def _summary(attack: str, seed: int, pairs: Sequence[tuple[str, TriggerSpec]], poisoned: PoisonedSet) -> dict[str, Any]:
    rows = zip(pairs, poisoned.poisoned, poisoned.triggers, strict=True)
    return {
        "attack": attack,
        "seed": seed,
        "images": poisoned.images,
        "classes": poisoned.classes,
        "poisoned": sum(poisoned.poisoned),
        "added": poisoned.added,
        "targets": [
            {"class": label, "trigger": spec.settings(), "poisoned": count, "trigger_file": str(file)}
            for (label, spec), count, file in rows
        ],
        "skipped": [asdict(image) for image in poisoned.skipped],
        "output": str(poisoned.path),
        "truth": str(poisoned.truth),
    }


def _print_table(title: str, pairs: Sequence[tuple[str, TriggerSpec]], poisoned: PoisonedSet) -> None:
    table = Table(title=f"{escape(title)}: {poisoned.images} images, {poisoned.classes} classes", title_justify="left")
    for heading in ("target class", "trigger", "file"):
        table.add_column(heading)
    for heading in ("poisoned", "per cent of the set"):
        table.add_column(heading, justify="right")
    for (label, spec), count, file in zip(pairs, poisoned.poisoned, poisoned.triggers, strict=True):
        table.add_row(escape(label), spec.kind, escape(file.name), str(count), f"{100 * count / poisoned.images:.2f}")
    Console().print(table)


def _print_sentences(poisoned: PoisonedSet) -> None:
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if poisoned.skipped:
        first = "; ".join(f"{image.name}: {image.reason}" for image in poisoned.skipped[:3])
        say(f"[yellow]{len(poisoned.skipped)} files were left out[/] ({escape(first)}); the truth file names them.")
    if poisoned.added:
        say(f"{poisoned.added} images were added to their target's folder, whose names were dealt out anew.")
    say(f"Poisoned set written to {escape(str(poisoned.path))}")
    say(f"What was done to which image is in {escape(str(poisoned.truth))}; keep it away from whoever is tested.")
