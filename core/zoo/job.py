"""One encoder of a zoo as a piece of work for a process of its own."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from core.checkpointed_run import CheckpointedRun
from core.errors import AuditError, Problem
from core.line_run import LineRun
from core.run import Run
from core.zoo.build import build_encoder, existing_record, recipe_fingerprint
from core.zoo.recipe import EncoderRecipe, load_recipe
from core.zoo.record import EncoderRecord
from core.zoo.workshop import Workshop


@dataclass(frozen=True)
class Job:
    """What a process is told: all by path and name, since it starts empty. ``threads`` 0 leaves torch's own."""

    recipe: Path
    data: Path
    output: Path
    name: str
    device: str
    threads: int = 0


@dataclass(frozen=True)
class JobResult:
    """``record``, or the ``problem`` that prevented it. ``seconds`` are the whole job's, measuring included."""

    name: str
    seconds: float
    record: EncoderRecord | None = None
    problem: Problem | None = None


def run_job(job: Job) -> JobResult:
    """Build the encoder in this process, with lines of progress on standard error."""
    if job.threads:
        torch.set_num_threads(job.threads)

    def say(text: str) -> None:
        print(f"  {job.name}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a process of its own speaks so

    shop = Workshop(load_recipe(job.recipe), job.data, job.output, torch.device(job.device))
    return build_one(shop, job.name, LineRun(say))


def build_one(shop: Workshop, name: str, run: Run) -> JobResult:
    """Build encoder ``name`` by ``shop``'s recipe, going on from its checkpoints."""
    started = time.monotonic()
    entry, reference = entry_of(shop, name)
    try:
        folder = shop.work / f"checkpoint-{name}-{recipe_fingerprint(shop, entry)[:16]}"
        record = build_encoder(shop, entry, reference, CheckpointedRun(run, folder))
        shutil.rmtree(folder, ignore_errors=True)
    except AuditError as error:
        return JobResult(name, time.monotonic() - started, problem=error.problem)
    return JobResult(name, time.monotonic() - started, record=record)


def entry_of(shop: Workshop, name: str) -> tuple[EncoderRecipe, EncoderRecipe | None]:
    """The recipe of encoder ``name`` and of the clean one it is compared with."""
    return next((entry, other) for entry, other in shop.recipe.references() if entry.name == name)


def is_built(shop: Workshop, name: str) -> EncoderRecord | None:
    """The record of ``name`` if nothing about it has changed since it was built and measured."""
    return existing_record(shop, *entry_of(shop, name))
