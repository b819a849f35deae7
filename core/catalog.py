"""Everything that can be asked for: kinds of audit, one row each, with the methods for their steps (``registry``).

The command line, the worker and (through ``api/contract/methods.json``) the service know nothing but these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from core.canary.audit import canary
from core.cleansing.pipeline import LEAST_IMAGES as LEAST_IN_A_SET
from core.config import MethodConfig, parse_config
from core.encoders.card import EncoderCard
from core.errors import UsageError
from core.forecast.outline import Outline, canary_outline, cleanse_outline, detect_outline, purify_outline
from core.images.load import LEAST_IMAGES
from core.kinds.cleanse import cleanse
from core.kinds.detect import detect
from core.kinds.findings import Findings, SetFindings, Subject
from core.kinds.purify import purify
from core.methods import Choice, Method, Unlearn
from core.registry import CLEANSING, DETECTION, PURIFICATION, THREAT_MODELS
from core.run import Run
from core.training.threat_model import ThreatNetwork, threat_card

BUDGETS: Mapping[str, str] = MappingProxyType({"quick": "quick", "standard": "default", "thorough": "thorough"})
"""Public name of how much to spend -> the preset that it stands for, the cheapest first."""

LARGEST_SEED = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


class AuditParameters(MethodConfig):
    """What can be set for every audit. Nothing is required."""

    preset: str = Field("default", description="Named set of values for the steps that have it; each may name its own.")
    budget: Literal["quick", "standard", "thorough"] | None = Field(
        None, description="How much to spend: a preset by its public name (standard: default). Not beside a preset."
    )
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
    trained where no encoder came; None for kinds that need one. ``outline`` says what an audit will cost, in passes.
    """

    key: str
    title: str
    description: str
    inputs: tuple[str, ...]
    yields_encoder: bool
    parameters: type[AuditParameters]
    sections: Mapping[str, tuple[Method[Any], ...]]
    run: Callable[[Subject, Settings, Run], Findings | SetFindings]
    outline: Callable[[Subject, Settings], Outline]
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
            outline=lambda subject, settings: detect_outline(
                subject, settings.chosen["detection"], default_unlearning()
            ),
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
            outline=lambda subject, settings: purify_outline(
                subject, settings.chosen["detection"], settings.chosen["purification"]
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
            outline=lambda subject, settings: canary_outline(
                subject, settings.chosen["detection"], default_unlearning(), settings.values["canary_steps"]
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
            outline=lambda subject, settings: cleanse_outline(
                subject, settings.chosen["cleansing"], settings.chosen["threat_model"]
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
    preset = _common_preset(parameters)
    chosen = {
        name: _choose(name, methods, dict(getattr(parameters, name)), preset) for name, methods in kind.sections.items()
    }
    known = {name: None for choice in chosen.values() for name in choice.method.presets}
    if parameters.budget is not None and preset not in known:
        there = {name: None for name, stands_for in BUDGETS.items() if stands_for in known}
        raise _not_one_of("unknown_budget", "parameters.budget", parameters.budget, there)
    if preset not in known:
        raise _not_one_of("unknown_preset", "parameters.preset", preset, known)
    own = {name for name in kind.parameters.model_fields if name not in ("preset", "budget", "seed", *kind.sections)}
    return Settings(parameters.seed, chosen, parameters.model_dump(include=own))


def with_budget(values: Mapping[str, Any], budget: str) -> dict[str, Any]:
    """A request's parameters with ``budget`` in the place of its own, or of the preset of the whole request."""
    return {**{name: value for name, value in values.items() if name != "preset"}, "budget": budget}


def budgets_of(kind: AuditKind, values: Mapping[str, Any]) -> dict[str, Settings]:
    """The settings of the same request with each budget that its methods have, the cheapest first."""
    found = {}
    for name in BUDGETS:
        try:
            found[name] = read_parameters(kind, with_budget(values, name))
        except UsageError as error:
            if error.problem.code != "unknown_budget":
                raise
    return found


def _common_preset(parameters: AuditParameters) -> str:
    if parameters.budget is None:
        return parameters.preset
    if "preset" in parameters.model_fields_set:
        raise UsageError(
            "invalid_parameter",
            field="parameters.budget",
            found="a budget and a preset",
            expected="one of them: a budget is a preset",
            action="Leave one out.",
        )
    return BUDGETS[parameters.budget]


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
