"""Every attack that poisons a data set, and the one way to run them. A new attack is one file and one row here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from core.attacks import corrupt_encoder, ctrl, noise, poisoned_encoder, poisoned_set, source_set, ssl_backdoor
from core.attacks.poison_plan import Poison, PoisoningConfig, Target, find_targets, require_kind
from core.attacks.poisoned_set import PoisonedSet, write_poisoned_set
from core.attacks.set_destination import check_destination
from core.attacks.source_set import SourceSet, open_source
from core.attacks.trigger_spec import TriggerSpec
from core.config import parse_config
from core.errors import UsageError
from core.run import Run


class Plan(Protocol):
    """Decide what to poison. ``config`` is of the attack's own class."""

    def __call__(self, source: SourceSet, targets: Sequence[Target], config: Any, *, seed: int) -> list[Poison]: ...


@dataclass(frozen=True)
class Poisoning:
    """One attack: its parameters, and how it chooses and paints."""

    key: str
    title: str
    description: str
    config: type[PoisoningConfig]
    plan: Plan

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Preset name -> the values it sets; always with ``default``."""
        return {"default": {}, **self.config.presets}

    def preset(self, name: str) -> Mapping[str, Any]:
        """The values of preset ``name``.

        Raises:
            UsageError: the attack has no such preset.
        """
        if name not in self.presets:
            raise _not_one_of("unknown_preset", "preset", name, self.presets)
        return self.presets[name]

    def default_trigger(self, preset: str, index: int) -> TriggerSpec:
        """The trigger of target ``index`` where none is named; those with a random pattern differ by their seeds."""
        triggers = self.config.default_triggers
        spec = triggers.get(preset, triggers["default"])
        return spec.model_copy(update={"seed": index}) if "seed" in spec.settings() else spec


POISONINGS: tuple[Poisoning, ...] = (
    Poisoning(
        "ssl-backdoor",
        "SSL-Backdoor",
        "A patch at a random place of images of the target class (Saha et al., CVPR 2022).",
        ssl_backdoor.SslBackdoorConfig,
        ssl_backdoor.plan,
    ),
    Poisoning(
        "ctrl",
        "CTRL",
        "An invisible spectral trigger on images of the target class (Li et al., ICCV 2023).",
        ctrl.CtrlConfig,
        ctrl.plan,
    ),
    Poisoning(
        "noise",
        "Random noise",
        "A fixed random pattern, over the whole image or as a patch, on images of the target class.",
        noise.NoiseConfig,
        noise.plan,
    ),
    Poisoning(
        "poisoned-encoder",
        "PoisonedEncoder, adapted",
        "Added pairs: an image of the target class beside a triggered one (after Liu et al., USENIX Security 2022).",
        poisoned_encoder.PoisonedEncoderConfig,
        poisoned_encoder.plan,
    ),
    Poisoning(
        "corrupt-encoder",
        "CorruptEncoder",
        "Added images: an object of the target class and the trigger far apart on a background (Zhang et al., CVPR "
        "2024).",
        corrupt_encoder.CorruptEncoderConfig,
        corrupt_encoder.plan,
    ),
)


def find_poisoning(key: str) -> Poisoning:
    """The row of the attack ``key``.

    Raises:
        UsageError: there is none.
    """
    rows = {row.key: row for row in POISONINGS}
    if key not in rows:
        raise _not_one_of("unknown_attack", "method", key, rows)
    return rows[key]


def poison(
    source: Path,
    output: Path,
    targets: Sequence[tuple[str, TriggerSpec]],
    attack_key: str,
    config_values: Mapping[str, Any],
    run: Run,
    *,
    seed: int,
    force: bool = False,
) -> PoisonedSet:
    """Poison the labelled set at ``source`` (a folder, zip or tar with class folders) into ``output``: a folder where
    ``source`` is one, else a zip.

    ``targets`` are class folders with the trigger that shall lead to each. ``config_values`` are those that differ from
    the attack's defaults. Beside the set are written ``truth.json`` (``core.attacks.poison_truth``) and
    ``trigger-0.npz``, ... at the commonest image size, a patch at the place it names or else in the lower right corner.

    Raises:
        UsageError: an unknown attack, parameter or class, a trigger that does not fit, a rate that poisons nothing,
            too few images of a target class, or an ``output`` that exists (unless ``force``) or cannot be.
        UnsupportedInput: a source without class folders or with too few images, or a damaged or hostile archive.
    """
    attack = find_poisoning(attack_key)
    config = _config(attack, config_values)
    require_kind([spec for _, spec in targets], attack.config.trigger_kinds, attack.title)
    check_destination(source, output, force=force)
    # Each image is decoded in both stages and encoded in the second.
    run.plan({source_set.STAGE: 1, poisoned_set.STAGE: 3})
    with open_source(source, run) as images:
        found = find_targets(images, targets)
        poisons = attack.plan(images, found, config, seed=seed)
        return write_poisoned_set(
            images, output, found, poisons, config, run, attack=attack.key, seed=seed, zipped=not source.is_dir()
        )


def _config(attack: Poisoning, values: Mapping[str, Any]) -> PoisoningConfig:
    try:
        return parse_config(attack.config, values)
    except UsageError as error:
        wrong = error.problem
        raise UsageError(
            wrong.code,
            field=wrong.field,
            found=wrong.found,
            expected=wrong.expected,
            action=f"Correct it; {attack.key} has {', '.join(attack.config.model_fields)}.",
        ) from error


def _not_one_of(code: str, field: str, found: str, known: Mapping[str, Any]) -> UsageError:
    return UsageError(
        code, field=field, found=f"'{found}'", expected=f"one of {', '.join(known)}", action="Choose one of these."
    )
