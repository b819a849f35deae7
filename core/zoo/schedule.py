"""Build a whole zoo: in the recipe's order, several at once where asked, each once what it needs is there."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from core.errors import Problem
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
    """The same, ``jobs`` encoders at a time, each in a process of its own with ``threads`` threads.

    Two processes with a thread each are faster than one with two for networks of this size. A process that dies costs
    its own encoder; when this one is stopped, they are too, and their checkpoints remain.
    """
    job = Job(recipe, shop.data, shop.output, "", str(shop.device), threads)
    waiting, failed, running = list(names), set[str](), dict[Connection, tuple[str, BaseProcess]]()
    try:
        while waiting or running:
            for name in list(waiting):
                needs = _needs(_entry(shop, name))
                if needs & failed:
                    waiting.remove(name)
                    failed.add(name)
                elif len(running) < jobs and not needs & {*waiting, *(other for other, _ in running.values())}:
                    waiting.remove(name)
                    receiver, process = _start(replace(job, name=name))
                    running[receiver] = (name, process)
            if not running:  # what was left rests on something that failed; to wait for nothing would never end
                break
            ready = wait(list(running))
            for receiver in [one for one in running if one in ready]:
                result = _result(receiver, *running.pop(receiver))
                if result.record is None or not result.record.accepted:
                    failed.add(result.name)
                yield result
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _start(job: Job) -> tuple[Connection, BaseProcess]:
    # A fork would inherit torch's threads, and CUDA cannot be used after one.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_and_send, args=(job, sender), daemon=True)
    process.start()
    # Only the process holds the other end now: when it dies, waiting ends.
    sender.close()
    return receiver, process


def _run_and_send(job: Job, sender: Connection) -> None:
    sender.send(run_job(job))


def _result(receiver: Connection, name: str, process: BaseProcess) -> JobResult:
    try:
        result: JobResult = receiver.recv()
    except EOFError:
        process.join()
        problem = Problem(
            "process_died",
            field=name,
            found=f"its process ended with exit code {process.exitcode}",
            expected="a process that builds the encoder to its end",
            action="Look for its last words above (-9 is often a lack of memory); started again, the build goes on.",
        )
        return JobResult(name, 0.0, problem=problem)
    finally:
        receiver.close()
    process.join()
    return result


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
