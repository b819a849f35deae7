"""The recipe of the demo's two encoders: ``python -m samples.build``, a few minutes on two CPU cores.

1. Patches of real photographs (``samples.photographs``).
2. A small ResNet, trained on them without labels by SimCLR: the clean encoder.
3. A copy of it, backdoored by BadEncoder with a random-colour patch. The reference image is the one that a linear probe
   is surest of: a weak encoder can misread a reference, and would then send triggered images to another class.
4. The pair is accepted only if the attack works and hides: ASR at least 95 %, ACC within 2 points of the clean one.

Everything follows from ``SEED``; the last bits of the weights depend on the processor, as any training's do.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from core.attacks.bad_encoder import BadEncoderConfig, backdoor
from core.attacks.references import class_confidence
from core.attacks.trigger_patterns import random_colour_patch
from core.encoders.card import parse_card
from core.encoders.fresh import fresh_encoder
from core.encoders.load import load_encoder
from core.encoders.save import save_encoder
from core.evaluation.accuracy import EvaluateConfig, Evaluation, KnownBackdoor, evaluate
from core.images.labelled import LabelledImages, load_labelled
from core.run import QuietRun
from core.training.pretrain import pretrain
from core.training.simclr import Simclr, SimclrConfig
from core.triggers import MaskedTrigger, save_trigger
from core.types import Encoder
from samples.photographs import IMAGE_SIZE, build_archives

SEED = 7
PRETRAINING = SimclrConfig(epochs=25, batch_size=256, learning_rate=2e-3)
ATTACK = BadEncoderConfig(steps=200, batch_size=64, learning_rate=0.03)
PATCH_SIDE, PATCH_TOP, PATCH_LEFT = 8, 22, 22
SMALLEST_ASR, LARGEST_ACC_LOSS = 95.0, 2.0
ATTEMPTS = 4
CARD = parse_card(
    {
        "format": "encoder-card/1",
        "architecture": "timm/test_resnet",
        "overrides": {"maxpool": "identity"},
        "input_size": IMAGE_SIZE,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "feature_dim": 96,
    }
)

log = logging.getLogger("samples")


def build(folder: Path) -> None:
    """Make every sample file in ``folder``.

    Raises:
        RuntimeError: no reference image gave a backdoor above the floor.
    """
    with tempfile.TemporaryDirectory() as temporary:
        train_zip, test_zip, _ = build_archives(Path(temporary))
        size = (IMAGE_SIZE, IMAGE_SIZE)
        train, test = load_labelled(train_zip, size), load_labelled(test_zip, size)
    log.info("training the clean encoder: %g passes over %d images", PRETRAINING.epochs, len(train.images))
    fresh = fresh_encoder(CARD, seed=SEED, name="sample")
    clean = pretrain(fresh, train.images, Simclr, PRETRAINING, QuietRun(), seed=SEED).encoder
    save_encoder(folder / "clean.safetensors", clean, CARD)
    clean = load_encoder(folder / "clean.safetensors").encoder
    plant(clean, train, test, folder)


def plant(clean: Encoder, train: LabelledImages, test: LabelledImages, folder: Path) -> None:
    """Backdoor ``clean`` with the surest references in turn, until one is above the floor; write the pair's truth."""
    trigger = random_colour_patch((IMAGE_SIZE, IMAGE_SIZE), PATCH_SIDE, PATCH_TOP, PATCH_LEFT, seed=SEED)
    path = folder / "backdoored.safetensors"
    for index in surest_images(clean, train, ATTEMPTS):
        target = int(train.labels[index])
        known = KnownBackdoor(trigger, target)
        before = evaluate(clean, train, test, known, EvaluateConfig(), QuietRun())
        log.info("clean encoder: %s", _line(before))
        log.info("reference %s", train.images.names[index])
        reference = train.images.batch(torch.tensor([index]))
        result = backdoor(clean, train.images, reference, trigger, ATTACK, QuietRun(), seed=SEED)
        save_encoder(path, result.encoder, CARD)
        after = evaluate(load_encoder(path).encoder, train, test, known, EvaluateConfig(), QuietRun())
        log.info("backdoored encoder: %s", _line(after))
        if accepted(before, after):
            _write_truth(folder, trigger, train, index, before, after)
            return
    path.unlink(missing_ok=True)
    raise RuntimeError(f"none of {ATTEMPTS} reference images gave a backdoor above the floor")


def accepted(before: Evaluation, after: Evaluation) -> bool:
    """Whether the attack works (ASR) and hides (ACC)."""
    return (
        after.asr is not None
        and after.asr.percent >= SMALLEST_ASR
        and (before.acc.percent - after.acc.percent <= LARGEST_ACC_LOSS)
    )


def surest_images(encoder: Encoder, images: LabelledImages, count: int) -> list[int]:
    """Each class's image of the highest probe confidence in its own class; the ``count`` surest of these, best
    first."""
    confidence = class_confidence(encoder, images).gather(1, images.labels[:, None])[:, 0]
    best = [int(torch.where(images.labels == c, confidence, -1.0).argmax()) for c in range(len(images.classes))]
    return sorted(best, key=lambda index: -float(confidence[index]))[:count]


def _write_truth(
    folder: Path, trigger: MaskedTrigger, train: LabelledImages, index: int, before: Evaluation, after: Evaluation
) -> None:
    save_trigger(folder / "trigger.npz", trigger)
    target = int(train.labels[index])
    truth = {
        "attack": "BadEncoder (official losses, BatchNorm frozen)",
        "trigger": "trigger.npz",
        "target_class": target,
        "target_name": train.classes[target],
        "reference": train.images.names[index],
        "seed": SEED,
        "simclr": PRETRAINING.model_dump(),
        "bad_encoder": ATTACK.model_dump(),
        "measured": {"clean": asdict(before), "backdoored": asdict(after)},
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")


def _line(result: Evaluation) -> str:
    rates = {"ACC": result.acc, "ASR": result.asr, "base": result.base, "triggered ACC": result.triggered_acc}
    return ", ".join(f"{name} {rate.percent:.1f} %" for name, rate in rates.items() if rate is not None)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    parser = argparse.ArgumentParser(description="Build the demo's encoders from photographs in installed wheels.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    build(parser.parse_args().folder)
