"""Build a whole zoo: in the recipe's order, several at once where asked, each once what it needs is there."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from core.run import Run
from core.zoo.job import Job, JobResult, build_one, is_built, run_job
from core.zoo.recipe import EncoderRecipe
from core.zoo.workshop import Workshop


def build_in_order(shop: Workshop, names: list[str], run_for: Callable[[str], Run]) -> Iterator[JobResult]:
    """Build ``names`` one after the other in this process. What rests on a failed encoder is not tried."""
    failed: set[str] = set()
    for name in names:
        entry = _entry(shop, name)
        if _needs(entry) & failed:
            failed.add(name)
            continue
        result = build_one(shop, name, run_for(name))
        if result.record is None or not result.record.accepted:
            failed.add(name)
        yield result


def build_in_parallel(
    shop: Workshop, names: list[str], recipe: Path, *, jobs: int, threads: int
) -> Iterator[JobResult]:
    """The same in ``jobs`` processes of ``threads`` threads each.

    Two processes with a thread each are faster than one with two for networks of this size.
    """
    job = Job(recipe, shop.data, shop.output, "", str(shop.device), threads)
    waiting, failed, running = list(names), set[str](), dict[Future[JobResult], str]()
    # A fork would inherit torch's threads, and CUDA cannot be used after one.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        while waiting or running:
            for name in list(waiting):
                needs = _needs(_entry(shop, name))
                if needs & failed:
                    waiting.remove(name)
                    failed.add(name)
                elif len(running) < jobs and not needs & {*waiting, *running.values()}:
                    waiting.remove(name)
                    running[pool.submit(run_job, replace(job, name=name))] = name
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                result = future.result()
                if result.record is None or not result.record.accepted:
                    failed.add(name)
                yield result


def unbuilt(shop: Workshop) -> list[str]:
    """The encoders that are still to be built, in the recipe's order; whatever rests on one of them is built again."""
    missing: list[str] = []
    for entry in shop.recipe.encoders:
        if _needs(entry) & set(missing) or is_built(shop, entry.name) is None:
            missing.append(entry.name)
    return missing


def _needs(entry: EncoderRecipe) -> set[str]:
    return {name for name in (entry.base, entry.reference) if name is not None}


def _entry(shop: Workshop, name: str) -> EncoderRecipe:
    return next(entry for entry in shop.recipe.encoders if entry.name == name)
