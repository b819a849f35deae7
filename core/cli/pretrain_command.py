"""``pretrain``: a self-supervised encoder of one's own, with its card and the record of its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from core.cli.answer import Format, print_json
from core.cli.audit_commands import CardFile, Debug, Device, Force, OutputFormat, Preset, Seed, SetValues
from core.cli.console_run import ConsoleRun
from core.cli.lab import require_lab_packages
from core.cli.method_settings import configure
from core.cli.request_options import check_output, read_card
from core.errors import UsageError

if TYPE_CHECKING:
    from core.encoders.card import EncoderCard
    from core.training.pretrain import Monitor, Pretraining


def pretrain(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Images to train on: a folder, zip, tar, table or array.")
    ],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The encoder (.safetensors).")],
    method: Annotated[str, typer.Option("--method", help="simclr, moco-v2, moco-v3 or byol.")] = "simclr",
    architecture: Annotated[
        str, typer.Option("--architecture", metavar="NAME", help="torchvision/... or timm/....")
    ] = "torchvision/resnet18",
    input_size: Annotated[int, typer.Option("--input-size", metavar="PIXELS", min=8, max=1024)] = 32,
    stem: Annotated[str, typer.Option("--stem", help="auto, small, fast or standard.")] = "auto",
    card: CardFile = None,
    monitor: Annotated[
        Path | None, typer.Option("--monitor", metavar="TEST", help="Labelled images, to watch kNN accuracy.")
    ] = None,
    preset: Preset = None,
    settings: SetValues = None,
    seed: Seed = 0,
    output_format: OutputFormat = Format.TABLE,
    device: Device = "auto",
    force: Force = False,
    debug: Debug = False,
) -> int:
    """Train an encoder without labels.

    Beside the encoder stands FILE.json: configuration, seed, digest of the data, versions, the curve. A training that
    was interrupted goes on from its last checkpoint when the same command is given again. Start it with torchrun to
    use several GPUs. With --monitor, IMAGES must be in class folders too; labels are used for watching only.
    """
    check_output(output, images, force=force)
    if output.suffix.lower() != ".safetensors":
        raise UsageError(
            "invalid_destination",
            field="output",
            found=f"the suffix '{output.suffix}'",
            expected=".safetensors",
            action="Rename it.",
        )
    require_lab_packages("pretrain")
    from core.audit import failures_explained  # torch takes seconds to import, and --help must not
    from core.device import resolve_device
    from core.encoders.card import parse_card
    from core.encoders.fresh import fresh_encoder
    from core.encoders.save import save_encoder
    from core.encoders.stems import training_card
    from core.images.load import load_images
    from core.training.checkpoints import checkpoint_folder, fingerprint
    from core.training.parallel import local_device, process_group, rank
    from core.training.pretrain import pretrain as train
    from core.training.trainers import find_trainer

    row = find_trainer(method)
    config = configure(row.config, row.presets, preset, settings or [], "epochs=50")
    given = read_card(card)
    chosen = parse_card(given) if given is not None else training_card(architecture, input_size, stem=stem)
    where = local_device(resolve_device(device))
    with failures_explained(), process_group(where), ConsoleRun(Console(stderr=True)) as run:
        data = load_images(images, chosen.image_size)
        for note in data.notes:
            _say(escape(note))
        key = fingerprint(method, config.model_dump(), chosen.to_json(), data.digest, seed)
        watched = None if monitor is None else _monitor(images, monitor, chosen)
        with checkpoint_folder(output, key, run, say=_say) as resumable:
            fresh = fresh_encoder(chosen, seed=seed, name=output.stem).to(where)
            result = train(fresh, data, row.objective, config, resumable, seed=seed, monitor=watched)
            if rank() == 0:
                save_encoder(output, result.encoder, chosen)
        record = _record(method, preset, config.model_dump(mode="json"), seed, data.digest, result)
        if rank() == 0:
            output.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if rank() == 0:
        _answer(record, output, output_format)
    return 0


def _monitor(images: Path, test: Path, card: EncoderCard) -> Monitor:
    from core.evaluation.monitor import NeighbourMonitor
    from core.images.labelled import load_labelled

    return NeighbourMonitor(load_labelled(images, card.image_size), load_labelled(test, card.image_size))


def _record(
    method: str,
    preset: str | None,
    config: dict[str, Any],
    seed: int,
    digest: str,
    result: Pretraining,
) -> dict[str, Any]:
    from core.training.checkpoints import versions

    return {
        "format": "encoder-audit-training/1",
        "method": method,
        "preset": preset or "default",
        "config": config,
        "seed": seed,
        "data_digest": digest,
        "steps": result.steps,
        "seconds": round(result.spent.seconds, 1),
        "cpu_seconds": round(result.spent.cpu_seconds, 1),
        "curve": [{"step": p.step, "loss": p.loss, "knn_acc": p.monitor} for p in result.curve],
        "versions": versions(),
    }


def _answer(record: dict[str, Any], output: Path, output_format: Format) -> None:
    last = record["curve"][-1]
    if output_format is Format.JSON:
        print_json({**record, "output": str(output)})
    accuracy = "" if last["knn_acc"] is None else f", kNN accuracy {last['knn_acc']:.1f} %"
    _say(f"{record['steps']} steps in {record['seconds']:.0f} s, loss {last['loss']:.4g}{accuracy}")
    _say(f"Encoder written to {escape(str(output))}")


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
