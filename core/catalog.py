"""Everything that can be asked for: kinds of audit, one row each, with the methods for their steps (``method_rows``).

The command line, the worker and (through ``api/contract/methods.json``) the service know nothing but these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import Field

from core.canary.audit import canary
from core.cleansing.pipeline import LEAST_IMAGES as LEAST_IN_A_SET
from core.config import MethodConfig, parse_config
from core.encoders.card import EncoderCard
from core.errors import UsageError
from core.images.load import LEAST_IMAGES
from core.kinds.cleanse import cleanse
from core.kinds.detect import detect
from core.kinds.findings import Findings, SetFindings, Subject
from core.kinds.purify import purify
from core.method_rows import CLEANSING, DETECTION, PURIFICATION, THREAT_MODELS
from core.methods import Choice, Method, Unlearn
from core.run import Run
from core.training.threat_model import ThreatNetwork, threat_card

LARGEST_SEED = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


class AuditParameters(MethodConfig):
    """What can be set for every audit. Nothing is required."""

    preset: str = Field("default", description="Named set of values for the steps that have it; each may name its own.")
    seed: int | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Where every random choice comes from; 0 if null."
    )


class DetectParameters(AuditParameters):
    """The same, and how to look for a backdoor."""

    detection: dict[str, Any] = Field({}, description="The detection method and what differs from its preset.")


class CanaryParameters(DetectParameters):
    """The same, and how long backdoors are planted."""

    canary_steps: int = Field(200, ge=1, le=10_000, description="Steps of the attack that plants each known backdoor.")


class PurifyParameters(DetectParameters):
    """The same, and how to unlearn."""

    purification: dict[str, Any] = Field({}, description="The purification method and what differs from its preset.")


class CleanseParameters(AuditParameters):
    """The same for a set of images: how to search it, and how to train an encoder on it where none is given."""

    archive: bool = Field(False, description="Whether to write the cleaned set too, in the form in which it came.")
    cleansing: dict[str, Any] = Field({}, description="The cleansing method and what differs from its preset.")
    threat_model: dict[str, Any] = Field(
        {}, description="How an encoder is trained on the set where none is given, and what differs from the preset."
    )


@dataclass(frozen=True)
class AuditKind:
    """Something a user can ask for. ``inputs`` are required, ``optional_inputs`` are not.

    ``sections`` are the steps a method is chosen for, named as in the parameters; ``run`` takes the choice made for
    each. ``yields_encoder`` says whether an encoder can be downloaded in the end. ``least_images``: fewer are refused.
    ``untrained_card`` gives, from the settings and the (height, width) of most images, the card of the network that is
    trained where no encoder came; None for kinds that need one.
    """

    key: str
    title: str
    description: str
    inputs: tuple[str, ...]
    yields_encoder: bool
    parameters: type[AuditParameters]
    sections: Mapping[str, tuple[Method[Any], ...]]
    run: Callable[[Subject, Settings, Run], Findings | SetFindings]
    optional_inputs: tuple[str, ...] = ()
    least_images: int = LEAST_IMAGES
    untrained_card: Callable[[Settings, tuple[int, int]], EncoderCard] | None = None


def default_unlearning() -> Choice[Unlearn]:
    """What makes the purified copy that a suspect of an unknown family is held against."""
    method = PURIFICATION[0]
    return Choice(method, "default", method.config())


def _threat_card(settings: Settings, usual_size: tuple[int, int]) -> EncoderCard:
    config = settings.chosen["threat_model"].config
    assert isinstance(config, ThreatNetwork)  # every row of THREAT_MODELS has such a config
    return threat_card(config, usual_size)


def _kinds() -> tuple[AuditKind, ...]:
    return (
        AuditKind(
            key="detect",
            title="Detect",
            description="Decides whether an encoder is backdoored and recovers the trigger.",
            inputs=("encoder", "images"),
            yields_encoder=False,
            parameters=DetectParameters,
            sections={"detection": DETECTION},
            run=lambda subject, settings, run: detect(subject, settings.chosen["detection"], default_unlearning(), run),
        ),
        AuditKind(
            key="purify",
            title="Detect and purify",
            description="Recovers the trigger, unlearns it from a copy of the encoder, and checks the copy again.",
            inputs=("encoder", "images"),
            yields_encoder=True,
            parameters=PurifyParameters,
            sections={"detection": DETECTION, "purification": PURIFICATION},
            run=lambda subject, settings, run: purify(
                subject, settings.chosen["detection"], settings.chosen["purification"], run
            ),
        ),
        AuditKind(
            key="canary",
            title="Test the detection",
            description=(
                "Plants known backdoors in copies of the encoder and says how many of them the same detection finds: "
                "what a verdict of clean is worth on this encoder."
            ),
            inputs=("encoder", "images"),
            yields_encoder=False,
            parameters=CanaryParameters,
            sections={"detection": DETECTION},
            run=lambda subject, settings, run: canary(
                subject, settings.chosen["detection"], default_unlearning(), settings.values["canary_steps"], run
            ),
        ),
        AuditKind(
            key="cleanse",
            title="Cleanse a training set",
            description=(
                "Finds the images of an unlabelled training set that carry a pasted patch, and says which may be "
                "trained on. The encoder is one that was trained on the set; without one it is trained first."
            ),
            inputs=("images",),
            optional_inputs=("encoder",),
            yields_encoder=False,
            parameters=CleanseParameters,
            sections={"cleansing": CLEANSING, "threat_model": THREAT_MODELS},
            run=lambda subject, settings, run: cleanse(
                subject,
                settings.chosen["cleansing"],
                settings.chosen["threat_model"],
                run,
                archive=settings.values["archive"],
            ),
            least_images=LEAST_IN_A_SET,
            untrained_card=_threat_card,
        ),
    )


KINDS: Mapping[str, AuditKind] = MappingProxyType({kind.key: kind for kind in _kinds()})
"""Kind of audit by key, in the order in which they are shown."""


@dataclass(frozen=True)
class Settings:
    """A request's parameters, checked: the seed (None: not given), a configured method for each section, and the
    parameters that belong to the kind itself."""

    seed: int | None
    chosen: Mapping[str, Choice[Any]]
    values: Mapping[str, Any] = field(default_factory=dict)


def find_kind(key: str) -> AuditKind:
    """The kind of audit called ``key``.

    Raises:
        UsageError: there is none.
    """
    if key not in KINDS:
        raise _not_one_of("unknown_kind", "kind", key, KINDS)
    return KINDS[key]


def read_parameters(kind: AuditKind, values: Mapping[str, Any]) -> Settings:
    """Check ``values`` as the user gave them and decide every parameter: preset first, then what was set by hand.

    Raises:
        UsageError: the first thing that does not fit, named by its path (``parameters.detection.steps``).
    """
    parameters = parse_config(kind.parameters, values)
    chosen = {
        name: _choose(name, methods, dict(getattr(parameters, name)), parameters.preset)
        for name, methods in kind.sections.items()
    }
    known = {preset: None for choice in chosen.values() for preset in choice.method.presets}
    if parameters.preset not in known:
        raise _not_one_of("unknown_preset", "parameters.preset", parameters.preset, known)
    own = {name for name in kind.parameters.model_fields if name not in ("preset", "seed", *kind.sections)}
    return Settings(parameters.seed, chosen, parameters.model_dump(include=own))


def _choose(section: str, methods: tuple[Method[Any], ...], values: dict[str, Any], common: str) -> Choice[Any]:
    """``common`` is the preset of the whole request: a method that has none of that name takes its default."""
    path = f"parameters.{section}"
    rows = {method.key: method for method in methods}
    key = values.pop("method", methods[0].key)
    if not isinstance(key, str) or key not in rows:
        raise _not_one_of("unknown_method", f"{path}.method", key, rows)
    method = rows[key]
    preset = values.pop("preset", common if common in method.presets else "default")
    if not isinstance(preset, str) or preset not in method.presets:
        raise _not_one_of("unknown_preset", f"{path}.preset", preset, method.presets)
    config = parse_config(method.config, {**method.presets[preset], **values}, path=path)
    return Choice(method, preset, config, values)


def _not_one_of(code: str, field: str, found: object, known: Mapping[str, object]) -> UsageError:
    return UsageError(
        code,
        field=field,
        found=f"{found!r}",
        expected=f"one of {', '.join(known)}",
        action="Choose one of these; 'encoder-audit methods' describes them.",
    )
