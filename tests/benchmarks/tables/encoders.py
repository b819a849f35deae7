"""The encoders of a zoo and their truth, as ``encoder-audit zoo build`` files them.

A folder with ``NAME.safetensors`` and ``truth/NAME.json`` is enough; ``index.json`` and ``records/`` add the order, the
trainer, the poison rate and what training cost.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from scipy.fft import dctn

from core.recovery.hypotheses import BLOCK
from core.triggers import AdditiveTrigger, BlendedTrigger, MaskedTrigger, load_trigger

ATTACKS = {
    "bad-encoder": "BadEncoder",
    "drupe": "DRUPE",
    "ssl-backdoor": "SSL-Backdoor",
    "ctrl": "CTRL",
    "noise": "noise trigger",
    "poisoned-encoder": "PoisonedEncoder",
    "corrupt-encoder": "CorruptEncoder",
}
"""Attack's key -> its name in print."""

SIDE = 32
"""Pixels of the papers' small images, and of an encoder whose file does not say."""
DEFAULT_SET = "cifar10"
"""Where no record says what an encoder was trained on."""


@dataclass(frozen=True)
class Backdoor:
    """A trigger file and the name of the class it leads to."""

    trigger: Path
    target: str


@dataclass(frozen=True)
class ZooEncoder:
    """One encoder and all that is known of it. ``attack`` is a key of ``ATTACKS`` where it is a known one, None for a
    clean encoder; ``trigger`` says of what kind its first trigger is. ``poison_rate`` and ``training_seconds`` (CPU)
    are None where no record has them. ``hard``: poisoned pre-training, a weak backdoor. ``side``: of its images, in
    pixels; the longer one."""

    name: str
    weights: Path
    sha256: str
    dataset: str
    architecture: str
    attack: str | None
    backdoors: tuple[Backdoor, ...] = ()
    trigger: str = ""
    trainer: str = ""
    hard: bool = False
    poison_rate: float | None = None
    training_seconds: float | None = None
    side: int = SIDE

    @property
    def attack_title(self) -> str:
        return "none" if self.attack is None else ATTACKS.get(self.attack, self.attack)


def read_zoos(folders: Sequence[Path]) -> tuple[ZooEncoder, ...]:
    """The encoders of all ``folders``, in order; the same weights under another name come once."""
    found: dict[str, ZooEncoder] = {}
    for folder in folders:
        for encoder in read_zoo(folder):
            found.setdefault(encoder.sha256, encoder)
    return tuple(found.values())


def read_zoo(folder: Path) -> tuple[ZooEncoder, ...]:
    """The encoders in ``folder``: in the index's order where there is one, else by name. Failed attacks lie in a
    folder of their own and are left out."""
    index = _json(folder / "index.json")
    listed = [name for name, row in index.get("encoders", {}).items() if row["accepted"]]
    there = sorted(path.stem for path in folder.glob("*.safetensors"))
    names = [name for name in listed if name in there] + [name for name in there if name not in listed]
    return tuple(read_encoder(folder, name) for name in names if (folder / "truth" / f"{name}.json").is_file())


def attack_key(attack: str) -> str | None:
    """The key of an attack as a truth file names it, in a word or in a sentence; None for a clean encoder."""
    spelt = re.sub(r"[^a-z]", "", attack.lower())
    if spelt.startswith("none"):
        return None
    known = (key for key in ATTACKS if spelt.startswith(key.replace("-", "")))
    return next(known, attack)


def trigger_kind(path: Path) -> str:
    """``patch``, ``masked``, ``spectral``, ``noise`` or ``blended``.

    A spectral trigger is an additive one with nearly all its energy in a handful of DCT coefficients of each block of
    32 pixels.
    """
    trigger = load_trigger(path)
    if isinstance(trigger, BlendedTrigger):
        return "blended"
    if isinstance(trigger, MaskedTrigger):
        return "patch" if float(trigger.mask.max()) == 1 and trigger.area() < 0.5 else "masked"
    assert isinstance(trigger, AdditiveTrigger)
    block = trigger.delta[:, :BLOCK, :BLOCK].numpy()
    energy = np.sort(np.square(dctn(block, axes=(1, 2), norm="ortho")).sum(0).ravel())[::-1]
    return "spectral" if energy[:8].sum() > 0.9 * energy.sum() else "noise"


def read_encoder(folder: Path, name: str, weights: Path | None = None) -> ZooEncoder:
    """Encoder ``name`` of the zoo in ``folder``; ``weights`` where they lie elsewhere (a failed attack's)."""
    weights = weights or folder / f"{name}.safetensors"
    truth = _json(folder / "truth" / f"{name}.json")
    record = _json(folder / "records" / f"{name}.json")
    recipe: Mapping[str, Any] = record.get("recipe", {})
    origin = _json(folder / "records" / f"{recipe['base']}.json") if "base" in recipe else record
    training: Mapping[str, Any] = origin.get("recipe", {}).get("training", {})
    pairs = [truth, *truth.get("more", [])] if truth.get("trigger") else []
    card = _card(weights)
    backdoors = tuple(Backdoor(folder / "truth" / pair["trigger"], pair["target_name"]) for pair in pairs)
    return ZooEncoder(
        name=name,
        weights=weights,
        sha256=_sha256(weights),
        dataset=recipe.get("data", DEFAULT_SET),
        architecture=str(card.get("architecture", "unknown")).partition("/")[2] or "unknown",
        attack=attack_key(truth["attack"]),
        backdoors=backdoors,
        trigger=trigger_kind(backdoors[0].trigger) if backdoors else "",
        trainer=training.get("method", ""),
        hard=bool(truth.get("hard", False)),
        poison_rate=recipe.get("poisoning", {}).get("set", {}).get("poison_rate"),
        training_seconds=origin.get("cpu_seconds"),
        side=_side(card),
    )


def _card(weights: Path) -> Mapping[str, Any]:
    with safe_open(weights, framework="pt") as file:
        card: Mapping[str, Any] = json.loads((file.metadata() or {}).get("encoder_card", "{}"))
    return card


def _side(card: Mapping[str, Any]) -> int:
    size = card.get("input_size", SIDE)
    return max(size) if isinstance(size, list) else int(size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
