"""Examine the encoders of a population: what every search finds in each, kept as one file per encoder.

An encoder is examined with images like those that it was trained on, as an audit would be, and the encoders of one
recipe with different numbers of them: how much a verdict hangs on that number is part of what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from core.decision.evidence import Examination
from core.decision.population import Part, ReferenceEncoder
from core.encoders.load import load_encoder
from core.images.load import load_images
from core.random import generator
from core.recovery.examination import examine
from core.recovery.forward import frozen
from core.recovery.ssldefender_search import SSLDefenderConfig
from core.run import QuietRun
from core.training.checkpoints import fingerprint
from core.types import ImageSet
from core.zoo.recipe import EncoderRecipe, ZooRecipe, load_recipe
from core.zoo.record import EncoderRecord, read_record, write_json
from core.zoo.workshop import Workshop

FORMAT = "encoder-audit-examined/5"
_COUNTS = (200, 100, 500)
"""Images that encoders are examined with, by their seeds in turn."""
_LARGE, _MOST_LARGE = 96, 200
"""From this side on, at most so many images: passes cost more there, and users have fewer."""


@dataclass(frozen=True)
class Work:
    """What a process is told: examine encoder ``name`` with ``preset``, and keep the result in ``output``."""

    recipe: Path
    data: Path
    zoo: Path
    output: Path
    name: str
    preset: str
    threads: int = 1


def examined(work: Work) -> ReferenceEncoder | None:
    """What was found in the encoder, read from its file or searched for now; None where it is not built, or nothing can
    be concluded from it."""
    known = kept(work)
    shop, entry, record = _place(work)
    if known is not None or record is None:
        return known
    torch.set_num_threads(work.threads)
    seen = _examine(shop, entry, record, work.preset)
    path = _path(work)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"format": FORMAT, "sha256": record.sha256, "key": _key(work.preset), "examination": seen})
    return kept(work)


def kept(work: Work) -> ReferenceEncoder | None:
    """What was found in the encoder before, with the same weights and parameters; None where it was not examined so."""
    shop, entry, record = _place(work)
    if record is None:
        return None
    try:
        document = json.loads(_path(work).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if document.get("sha256") != record.sha256 or document.get("key") != _key(work.preset):
        return None
    return _reference(shop.recipe, entry, record, Examination.from_json(document["examination"]))


def examine_all(works: Sequence[Work], jobs: int) -> Iterator[tuple[str, ReferenceEncoder | None]]:
    """:func:`examined` for each of ``works``, so many at once, as they are done."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(examined, work): work.name for work in works}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _place(work: Work) -> tuple[Workshop, EncoderRecipe, EncoderRecord | None]:
    """The zoo, the encoder's recipe and its record, if it is built."""
    shop = Workshop(_recipe(work.recipe), work.data, work.zoo, torch.device("cpu"))
    entry = next(one for one in shop.recipe.encoders if one.name == work.name)
    return shop, entry, read_record(shop.record_path(entry.name))


def _path(work: Work) -> Path:
    return work.output / work.preset / f"{work.name}.json"


def _examine(shop: Workshop, entry: EncoderRecipe, record: EncoderRecord, preset: str) -> dict[str, Any]:
    encoder = load_encoder(shop.weights(entry.name, accepted=record.accepted)).encoder.to(shop.device)
    origin = next(one for one in shop.recipe.encoders if one.name == (entry.base or entry.name))
    images = _images(shop, origin, encoder.image_size)
    count = _COUNTS[(entry.seed or origin.seed or 1) % len(_COUNTS) - 1]
    if min(encoder.image_size) >= _LARGE:
        count = min(count, _MOST_LARGE)
    chosen = torch.randperm(len(images), generator=generator(shop.recipe.seed, "images", entry.name))[:count]
    config = _config(preset)
    seen = examine(frozen(encoder), images.subset(chosen), config, QuietRun(), seed=shop.recipe.seed)
    return seen.examination.to_json()


def _images(shop: Workshop, origin: EncoderRecipe, image_size: tuple[int, int]) -> ImageSet:
    data = shop.recipe.data[origin.data]
    return _read(shop.data / str(data.audit or data.test), image_size)


@lru_cache(maxsize=2)
def _read(path: Path, image_size: tuple[int, int]) -> ImageSet:
    return load_images(path, image_size)


@lru_cache(maxsize=4)
def _recipe(path: Path) -> ZooRecipe:
    return load_recipe(path)


def _config(preset: str) -> SSLDefenderConfig:
    return SSLDefenderConfig.model_validate({} if preset == "default" else SSLDefenderConfig.presets[preset])


def _key(preset: str) -> str:
    """A digest of all that decides what is found, besides the encoder."""
    return fingerprint(FORMAT, _config(preset).model_dump(mode="json"), list(_COUNTS), _LARGE, _MOST_LARGE)


def _reference(
    recipe: ZooRecipe, entry: EncoderRecipe, record: EncoderRecord, examination: Examination
) -> ReferenceEncoder:
    origin = next(one for one in recipe.encoders if one.name == (entry.base or entry.name))
    part: Part = entry.part or "calibration"
    attack = None if record.attack is None else str(record.attack["method"])
    return ReferenceEncoder(entry.name, origin.recipe or origin.name, part, record.sha256, attack, examination)
