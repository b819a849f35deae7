"""What a row of the catalogue is: a method with its parameters, and a request's choice of one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from core.cleansing.result import Cleansing
from core.config import MethodConfig
from core.passes import TYPICAL, Passes, Workload, total
from core.recovery.detection import Detection
from core.recovery.power import Worth
from core.run import Run
from core.training.pretrain import Pretraining
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, ImageSet
from core.unlearning.result import Unlearning


class Detect(Protocol):
    """Look for a backdoor. ``config`` is of the method's own class; the encoder given is unchanged."""

    def __call__(self, encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Detection: ...


class ExpandTriggers(Protocol):
    """Find more triggers of the backdoors that a detection found; ``config`` is that of the detection."""

    def __call__(
        self, encoder: Encoder, images: ImageSet, config: Any, found: Detection, run: Run, *, seed: int
    ) -> Detection: ...


class ScoreKinds(Protocol):
    """What an encoder scores in the kinds of trigger with these keys, as x of ``core.recovery.nulls`` by the key;
    ``config`` is that of the detection. A kind of which nothing can be said is missing."""

    def __call__(
        self, encoder: Encoder, images: ImageSet, config: Any, kinds: Collection[str], run: Run, *, seed: int
    ) -> Mapping[str, float]: ...


class Unlearn(Protocol):
    """Make a copy of the encoder that no longer obeys the triggers. ``config`` is of the method's own class."""

    def __call__(
        self,
        encoder: Encoder,
        images: ImageSet,
        triggers: Sequence[MaskedTrigger | AdditiveTrigger],
        config: Any,
        run: Run,
        *,
        seed: int,
    ) -> Unlearning: ...


class Cleanse(Protocol):
    """Find the poisoned images of a set. ``config`` is of the method's own class; the encoder given is unchanged."""

    def __call__(self, encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Cleansing: ...


class Train(Protocol):
    """Train a copy of a fresh encoder on a suspect set. ``config`` is of the method's own class."""

    def __call__(self, encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Pretraining: ...


MethodT = TypeVar("MethodT", Detect, Unlearn, Cleanse, Train)


@dataclass(frozen=True)
class Method(Generic[MethodT]):
    """One method of the catalogue. ``config`` has a class variable ``presets``: name -> values that differ from the
    defaults; the preset ``default`` always exists. ``stage_plan`` maps the stages of a configured run to the passes of
    the encoder that they take at most; ``settles_from`` is the share of them after which a search that stops by itself
    may have done so. ``uses_new_triggers``: whether triggers that are found after a round of unlearning would change
    the next; not so for methods that ignore triggers or take only the first. ``expand_triggers`` with its
    ``expansion_plan``: how a detection method comes to more triggers of what it found; None for methods that have no
    such step. ``score_kinds``: the same search for some kinds of trigger only, which a purified copy of the suspect is
    put to. ``second`` is asked, with its default parameters, where a detection method is in doubt. ``worth`` says what
    a run with a configuration is worth that found nothing, on images of a (height, width): every detection method has
    it."""

    key: str
    title: str
    description: str
    config: type[MethodConfig]
    apply: MethodT
    stage_plan: Callable[[Any, Workload], Mapping[str, Passes]]
    uses_new_triggers: bool = True
    expand_triggers: ExpandTriggers | None = None
    expansion_plan: Callable[[Any, int, Workload], Mapping[str, Passes]] | None = None
    score_kinds: ScoreKinds | None = None
    second: Method[MethodT] | None = None
    worth: Callable[[Any, tuple[int, int]], Worth] | None = None
    settles_from: float = 1.0

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Preset name -> the values it sets; always with ``default``."""
        named: Mapping[str, Mapping[str, Any]] = getattr(self.config, "presets", {})
        return {"default": {}, **named}


@dataclass(frozen=True)
class Choice(Generic[MethodT]):
    """A method with all its parameters decided. ``overrides`` are the values set by hand, over the preset's."""

    method: Method[MethodT]
    preset: str
    config: MethodConfig
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def stages(self) -> dict[str, float]:
        """Stage name -> share of this method's time, summing to 1."""
        return self._shares(self.method.stage_plan(self.config, TYPICAL))

    def expansion_stages(self, found: Detection) -> dict[str, float]:
        """The same for expanding ``found``, in units of all of :meth:`stages`; nothing where there is no such step."""
        plan = self.method.expansion_plan
        return {} if plan is None else self._shares(plan(self.config, found.pending_targets, TYPICAL))

    def passes(self, load: Workload) -> Mapping[str, Passes]:
        """Stage name -> passes of the encoder for images of ``load``."""
        return self.method.stage_plan(self.config, load)

    def expansion_passes(self, targets: int, load: Workload) -> Mapping[str, Passes]:
        """The same for expanding so many targets; nothing where there is no such step."""
        plan = self.method.expansion_plan
        return {} if plan is None else plan(self.config, targets, load)

    def _shares(self, plan: Mapping[str, Passes]) -> dict[str, float]:
        whole = total(self.method.stage_plan(self.config, TYPICAL).values()).weight or 1.0
        return {name: passes.weight / whole for name, passes in plan.items()}
