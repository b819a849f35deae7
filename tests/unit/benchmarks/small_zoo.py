"""A zoo of two tiny encoders, image sets of four classes, and work that measures nothing: for tests of the tables."""

import json
import os
import time

import numpy as np
import torch

from core.encoders.fresh import fresh_encoder
from core.encoders.save import save_encoder
from core.encoders.stems import training_card
from core.triggers import MaskedTrigger, save_trigger
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import DetectionRun
from tests.benchmarks.tables.encoders import read_zoos
from tests.benchmarks.tables.images import ImageLibrary
from tests.unit.attacks.class_folders import labelled_files, write_zip

ENVIRONMENT = {
    "commit": "abc1234",
    "device": "cpu",
    "system": "Linux",
    "machine": "x86_64",
    "cores": 2,
    "threads": 1,
    "python": "3.11",
    "versions": {"torch": "2.10"},
}


def write_zoo(folder, side=32):
    """``clean``, and ``planted`` with a white patch that leads to ``dog``."""
    card = training_card("torchvision/shufflenet_v2_x0_5", side, stem="fast")
    (folder / "truth").mkdir(parents=True)
    for seed, name in enumerate(("clean", "planted")):
        save_encoder(folder / f"{name}.safetensors", fresh_encoder(card, seed=seed), card)
    mask = torch.zeros(1, side, side)
    mask[:, -6:, -6:] = 1
    save_trigger(folder / "truth" / "white.npz", MaskedTrigger(mask, torch.ones(3, side, side) * mask))
    truths = {
        "clean": {"attack": "none (clean)", "trigger": None, "target_name": None},
        "planted": {"attack": "BadEncoder (official loss)", "trigger": "white.npz", "target_name": "dog"},
    }
    for name, truth in truths.items():
        (folder / "truth" / f"{name}.json").write_text(json.dumps(truth))
    return folder


def write_sets(folder, training=40):
    """``cifar10``, as it is called where no record says otherwise: ``training`` and 30 test images of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    for half, count in (("train", training), ("test", 30)):
        write_zip(folder / f"cifar10-{half}.zip", labelled_files(count))
    return folder


def small_bench(folder, seeds=2):
    """The bench of that zoo and those sets."""
    return Bench(read_zoos([write_zoo(folder / "zoo")]), ImageLibrary(write_sets(folder / "data")), seeds)


def pretend(cell, place):
    """The result of a run that did nothing: numbers from the cell's own fingerprint."""
    number = float(np.frombuffer(cell.title.encode(), dtype=np.uint8).sum() % 50)
    rates = {"acc": 50 + number / 10, "asr": number, "base": 2.0, "triggered_acc": 40.0}
    part = {"targets": ["dog"], "fitted_on": 100, "tested_on": 90, "evaluations": [rates]}
    document = {
        "problem": None,
        "environment": ENVIRONMENT,
        "process": os.getpid(),
        "seconds": 2.0,
        "cpu_seconds": 1.0,
        "peak_memory_mib": 100.0,
        "images": 6,
        "verdict": "backdoored" if cell.encoder.backdoors else "clean",
        "score": 1.0 if cell.encoder.backdoors else 0.5,
        "purified": True,
        "verification": None,
        "measured": {"cifar10": part},
    }
    if isinstance(cell, DetectionRun):
        place.store.kept(cell).write_bytes(b"")
    return document


def die(cell, place):
    """A process that is killed in the middle."""
    os._exit(9)


def never_end(cell, place):
    """Work that only an interrupt ends; leaves its process's number behind."""
    (place.store.folder / f"process-{os.getpid()}").touch()
    time.sleep(600)  # until it is stopped: that is what is tested
