"""Image sets cut into parts that never meet: what probes are fitted on, what they are read on, what a defence is given.

A defence gets images of the *training* half: a tenth of each class is set aside for it, and no probe is fitted on
those. The papers take a share of the test half and then test on that half; here the share (the "holding rate") only
says how many images there are. A defence sees them unlabelled and under numbers for names.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from core.checkpoint import load_checkpoint, save_checkpoint
from core.errors import UsageError
from core.images.labelled import LabelledImages, class_folders, load_labelled
from core.images.load import image_names, open_members
from core.random import generator
from core.training.checkpoints import fingerprint
from core.types import ImageSet

ASIDE = 0.1
"""Share of each training class that is set aside for defences."""
PROBE_PER_CLASS = 1000
"""Labelled training images of each class that a probe is fitted on, at most."""
_TEST_HALVES = ("test", "val")
_FORMS = (".zip", "")


@dataclass(frozen=True)
class CleanImages:
    """``count`` images of set ``dataset`` for a defence; which ones, the seed of the run decides."""

    dataset: str
    count: int


@dataclass(frozen=True)
class ImageLibrary:
    """The sets in ``folder``: ``NAME-train`` and ``NAME-test`` (or ``-val``), zips or folders of class folders.

    ``cache`` keeps their decoded pixels: hundreds of runs read the same archives.
    """

    folder: Path
    cache: Path | None = None

    def has(self, dataset: str) -> bool:
        return self._half(dataset, ("train",)) is not None and self._half(dataset, _TEST_HALVES) is not None

    def identity(self, dataset: str) -> list[object]:
        """What tells one copy of a set from another without reading it."""
        halves = (self._path(dataset, ("train",)), self._path(dataset, _TEST_HALVES))
        return [[path.name, path.stat().st_size if path.is_file() else None] for path in halves]

    def training_half(self, dataset: str) -> Path:
        """The set's training images."""
        return self._path(dataset, ("train",))

    def clean_images(self, dataset: str) -> Path | None:
        """``NAME-clean-images``: further images of the set, in neither half; None where there are none."""
        return self._half(dataset, ("clean-images",))

    def test_size(self, dataset: str) -> int:
        return _count(self._path(dataset, _TEST_HALVES))

    def to_fit(self, dataset: str, size: tuple[int, int]) -> LabelledImages:
        """Labelled training images for probes, none of which any defence is given."""
        whole = _labelled(self._path(dataset, ("train",)), size, self.cache)
        return _part(whole, cut(whole.labels)[0])

    def to_test(self, dataset: str, size: tuple[int, int]) -> LabelledImages:
        return _labelled(self._path(dataset, _TEST_HALVES), size, self.cache)

    def for_defence(self, clean: CleanImages, size: tuple[int, int], seed: int) -> ImageSet:
        """Unlabelled images, drawn without a look at their classes.

        Raises:
            UsageError: not as many were set aside.
        """
        whole = _labelled(self._path(clean.dataset, ("train",)), size, self.cache)
        chosen = whole.images.subset(_drawn(cut(whole.labels)[1], clean, seed))
        return replace(chosen, names=tuple(f"{number:05d}" for number in range(clean.count)))

    def write_for_defence(self, clean: CleanImages, seed: int, path: Path) -> None:
        """Images for a defence as a user would give them: their files, in a zip at ``path``. They are of
        :meth:`clean_images` where there are such, otherwise those of :meth:`for_defence`.

        Raises:
            UsageError: not as many were set aside.
        """
        apart = self.clean_images(clean.dataset)
        source = apart or self.training_half(clean.dataset)
        with open_members(source) as members, zipfile.ZipFile(path, "w") as archive:
            names = image_names(members)
            aside = torch.arange(len(names))
            if apart is None:
                class_of = class_folders(names, source.name)
                names, classes = list(class_of), sorted(set(class_of.values()))
                aside = cut(torch.tensor([classes.index(label) for label in class_of.values()]))[1]
            for number, index in enumerate(_drawn(aside, clean, seed).tolist()):
                archive.writestr(f"{number:05d}{Path(names[index]).suffix}", members.read(names[index]))

    def _path(self, dataset: str, halves: tuple[str, ...]) -> Path:
        path = self._half(dataset, halves)
        if path is None:
            raise UsageError(
                "no_such_file",
                field="data",
                found=f"no {dataset}-{halves[0]} in {self.folder}",
                expected="a zip or folder of class folders of that name",
                action="Check --data.",
            )
        return path

    def _half(self, dataset: str, halves: tuple[str, ...]) -> Path | None:
        paths = (self.folder / f"{dataset}-{half}{form}" for half in halves for form in _FORMS)
        return next((path for path in paths if path.exists()), None)


def cut(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices to fit probes on, and indices set aside for defences: of each class the last tenth, by name."""
    fit, aside = [], []
    for label in labels.unique():
        members = torch.where(labels == label)[0]
        border = len(members) - max(1, round(ASIDE * len(members)))
        fit.append(members[:border][:PROBE_PER_CLASS])
        aside.append(members[border:])
    return torch.cat(fit), torch.cat(aside)


def _drawn(aside: torch.Tensor, clean: CleanImages, seed: int) -> torch.Tensor:
    """As many of the indices ``aside`` as ``clean`` says."""
    if len(aside) < clean.count:
        raise UsageError(
            "too_few_images",
            field="data",
            found=f"{len(aside)} images of {clean.dataset} set aside for defences",
            expected=f"at least {clean.count}",
            action="Use a larger training set.",
        )
    order = torch.randperm(len(aside), generator=generator(seed, "clean images", clean.dataset))
    return aside[order[: clean.count]]


def _part(images: LabelledImages, indices: torch.Tensor) -> LabelledImages:
    return LabelledImages(images.images.subset(indices), images.labels[indices], images.classes)


@lru_cache(maxsize=4)
def _labelled(path: Path, size: tuple[int, int], cache: Path | None) -> LabelledImages:
    if cache is None or not path.is_file():
        return load_labelled(path, size)
    status = path.stat()
    version = fingerprint(str(path.resolve()), status.st_size, status.st_mtime_ns, size)[:16]
    kept = cache / f"{path.stem}-{version}.safetensors"
    if not kept.is_file():
        _keep(load_labelled(path, size), kept)
    state = load_checkpoint(kept)
    images = ImageSet(state["pixels"], tuple(state["names"]), state["digest"])
    return LabelledImages(images, state["labels"], tuple(state["classes"]))


def _keep(images: LabelledImages, path: Path) -> None:
    """At once, and under a name of this process's own until then: several may decode the same set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f"{path.stem}.{os.getpid()}")
    whole = images.images
    state = {"pixels": whole.pixels, "names": list(whole.names), "digest": whole.digest}
    save_checkpoint(own, {**state, "labels": images.labels, "classes": list(images.classes)})
    own.replace(path)


@lru_cache(maxsize=16)
def _count(path: Path) -> int:
    with open_members(path) as members:
        return len(image_names(members))
