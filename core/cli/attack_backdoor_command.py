"""``attack backdoor``: a backdoored copy of a trained encoder, to test an audit or a defence on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from core.cli.answer import Format, print_json, print_reading
from core.cli.audit_commands import (
    CardFile,
    CopyName,
    Debug,
    Device,
    EncoderFile,
    Force,
    OutputFormat,
    Preset,
    Seed,
    SetValues,
)
from core.cli.console_run import ConsoleRun
from core.cli.method_settings import configure
from core.cli.request_options import check_output, read_card
from core.errors import UnsupportedInput


def backdoor(
    encoder: EncoderFile,
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Labelled images: a folder, zip or tar of classes.")],
    target: Annotated[str, typer.Option("--target", metavar="CLASS", help="Class to lead to: a class folder.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The backdoored encoder.")],
    method: Annotated[str, typer.Option("--method", help="bad-encoder or drupe.")] = "bad-encoder",
    trigger: Annotated[
        str, typer.Option("--trigger", metavar="SPEC", help="As in 'attack poison': white-patch:side=10, spectral, ...")
    ] = "white-patch:side=10",
    references: Annotated[
        int | None, typer.Option("--references", min=1, max=100, help="Reference images of the target class.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Labelled test images, to measure whether the attack worked.")
    ] = None,
    card: CardFile = None,
    copy: CopyName = None,
    preset: Preset = None,
    settings: SetValues = None,
    seed: Seed = 0,
    output_format: OutputFormat = Format.TABLE,
    device: Device = "auto",
    force: Force = False,
    debug: Debug = False,
) -> int:
    """Plant a backdoor into a copy of a trained encoder.

    Beside the encoder stand its truth (FILE.truth.json) and its trigger (FILE.trigger.npz). With --test the attack is
    measured, and one below its floor (ASR 95 %, ACC 2 points lower) is not written: the exit status is then 2.
    """
    check_output(output, encoder, force=force)
    import torch  # takes seconds, and --help must not

    from core.attacks.backdooring import find_backdooring
    from core.attacks.references import surest_images
    from core.attacks.trigger_spec import build_trigger, parse_trigger
    from core.audit import failures_explained
    from core.device import resolve_device
    from core.encoders.load import load_encoder
    from core.encoders.save import save_encoder
    from core.evaluation.acceptance import attack_failed
    from core.evaluation.accuracy import EvaluateConfig, KnownBackdoor, evaluate
    from core.images.labelled import load_labelled, require_class
    from core.triggers import save_trigger

    row, spec, where = find_backdooring(method), parse_trigger(trigger), resolve_device(device)
    config = configure(row.config, row.presets, preset, settings or [], "steps=500")
    if output.suffix.lower() != ".safetensors":
        raise UnsupportedInput(
            "unknown_container",
            field="output",
            found=f"'{output.suffix}'",
            expected=".safetensors",
            action="Rename it.",
        )
    summary: dict[str, Any] = {"attack": row.key, "trigger": spec.settings(), "target": target, "seed": seed}
    console = Console(stderr=True)
    with failures_explained(), ConsoleRun(console) as run:
        loaded = load_encoder(encoder, card=read_card(card), copy=copy)
        print_reading(asdict(loaded.reading), console, word="Attacked")
        clean = loaded.encoder.to(where)
        labelled = load_labelled(images, clean.image_size)
        number = require_class(target, labelled.classes, field="target")
        built = build_trigger(spec, clean.image_size)
        chosen = surest_images(clean, labelled, number, references or row.references)
        reference = labelled.images.batch(torch.tensor(chosen), where)
        result = row.backdoor(clean, labelled.images, reference, built, config, run, seed=seed)
        summary["references"] = [labelled.images.names[index] for index in chosen]
        summary["losses"] = {
            "effectiveness": result.effectiveness_loss,
            "reference": result.reference_loss,
            "utility": result.utility_loss,
        }
        reason = None
        if test is not None:
            testing = load_labelled(test, clean.image_size)
            known = KnownBackdoor(built, number)
            before = evaluate(clean, labelled, testing, None, EvaluateConfig(probes=("linear",)), run, seed=seed)
            after = evaluate(
                result.encoder, labelled, testing, known, EvaluateConfig(probes=("linear",)), run, seed=seed
            )
            assert after.asr is not None and after.base is not None
            summary["measured"] = {
                "acc_before": before.acc.percent,
                "acc": after.acc.percent,
                "asr": after.asr.percent,
                "base": after.base.percent,
            }
            reason = attack_failed(before.acc.percent, after)
        summary["accepted"] = None if test is None else reason is None
        if reason is None:
            save_trigger(output.with_suffix(".trigger.npz"), built)
            truth = {**summary, "trigger_file": output.with_suffix(".trigger.npz").name}
            output.with_suffix(".truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
            save_encoder(output, result.encoder, loaded.card)
    _answer(summary, output, reason, output_format)
    return 0 if reason is None else 2


def _answer(summary: dict[str, Any], output: Path, reason: str | None, output_format: Format) -> None:
    if output_format is Format.JSON:
        print_json({**summary, "output": None if reason else str(output)})
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if "measured" in summary:
        found = summary["measured"]
        say(
            f"ASR {found['asr']:.1f} % (base {found['base']:.1f}), "
            f"ACC {found['acc_before']:.1f} -> {found['acc']:.1f} %"
        )
    if reason is not None:
        say(f"[yellow]The attack failed[/]: {escape(reason)}. Nothing was written; try more steps or another trigger.")
        return
    if "measured" not in summary:
        say("Not measured: give --test to see whether the attack worked.")
    say(f"Backdoored encoder written to {escape(str(output))}")
    say("Its truth and its trigger are beside it; keep them away from whoever is tested.")
