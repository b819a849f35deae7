"""The methods under test, called as an audit calls them.

What comes in here is all that a defence may know: an encoder without its name, unlabelled images, parameters, a seed.
Nothing in this file, or in what it imports, reads a truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.catalog import default_unlearning
from core.checkpoint import load_checkpoint, save_checkpoint
from core.errors import UsageError
from core.kinds.detect import detect
from core.kinds.findings import Subject
from core.kinds.purify import purify
from core.methods import Choice, Detect, Unlearn
from core.recovery.detection import About, Caveat, Detection, HypothesisResult, RecoveredTrigger
from core.run import Run
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, ImageSet, Verdict
from core.unlearning.result import Unlearning


@dataclass(frozen=True)
class Purified:
    """``encoder`` is the one to deliver; ``unlearning`` is None where there was nothing to unlearn, ``verification``
    where nothing was verified."""

    encoder: Encoder
    unlearning: Unlearning | None = None
    verification: Detection | None = None


def look(encoder: Encoder, images: ImageSet, choice: Choice[Detect], run: Run, *, seed: int) -> Detection:
    """One detection, with what an audit purifies to compare with where clean encoders of the family are unknown."""
    return detect(Subject(encoder, images, seed), choice, default_unlearning(), run).detection


def unlearn_once(
    encoder: Encoder, images: ImageSet, found: Detection, choice: Choice[Unlearn], run: Run, *, seed: int
) -> Purified:
    """One unlearning of what was ``found``. Methods that use no trigger purify whatever was found; for the others there
    is nothing to do where no trigger was."""
    triggers = [recovered.trigger for recovered in found.triggers]
    try:
        done = choice.method.apply(encoder, images, triggers, choice.config, run, seed=seed)
    except UsageError as error:
        if error.problem.code != "no_triggers":
            raise
        return Purified(encoder)
    return Purified(done.student, done)


def purify_and_verify(
    suspect: Encoder,
    images: ImageSet,
    found: Detection,
    detection: Choice[Detect],
    purification: Choice[Unlearn],
    run: Run,
    *,
    seed: int,
) -> Purified:
    """The kind of audit ``purify``, whose first detection was made before and is not made again."""

    def apply(encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Detection:
        if encoder is suspect:
            return found
        return detection.method.apply(encoder, images, config, run, seed=seed)

    remembered = replace(detection, method=replace(detection.method, apply=apply))
    findings = purify(Subject(suspect, images, seed), remembered, purification, run)
    assert findings.delivered is not None
    return Purified(findings.delivered, findings.unlearning, findings.verification)


def save_detection(path: Path, found: Detection) -> None:
    """Keep all of ``found``, triggers included, for the purifications that start from it."""
    state = asdict(replace(found, triggers=()))
    del state["reserve"]  # for a second opinion, which has been asked
    state["unfollowed"] = state.pop("pending_targets")
    state["hypotheses"] = [hypothesis_state(row) for row in found.hypotheses]
    state["triggers"] = [
        {**{name: getattr(each, name) for name in _SIZES}, "trigger": vars(each.trigger)} for each in found.triggers
    ]
    save_checkpoint(path, {"detection": state})


def hypothesis_state(row: HypothesisResult) -> dict[str, Any]:
    """``row`` as results keep it: under the names that results have had from the first."""
    state = asdict(row)
    state["whole"] = state.pop("raw_similarity")
    return state


def read_detection(path: Path) -> Detection:
    """What :func:`save_detection` wrote."""
    state = dict(load_checkpoint(path)["detection"])
    state["verdict"] = Verdict(state["verdict"])
    state["pending_targets"] = state.pop("unfollowed", 0)
    state["hypotheses"] = tuple(_hypothesis(row) for row in state["hypotheses"])
    state["triggers"] = tuple(
        RecoveredTrigger(**{**row, "trigger": _trigger(row["trigger"])}) for row in state["triggers"]
    )
    state["caveats"] = tuple(Caveat(About(row["about"]), row["sentence"]) for row in state.get("caveats", ()))
    return Detection(**{**state, "reasons": tuple(state["reasons"]), "untested": tuple(state["untested"])})


def _hypothesis(state: Mapping[str, Any]) -> HypothesisResult:
    row = dict(state)
    row["raw_similarity"] = row.pop("whole", None)
    return HypothesisResult(**{**row, "scores": tuple(row["scores"]), "blown_up": tuple(row.get("blown_up", ()))})


_SIZES: Sequence[str] = ("hypothesis", "similarity", "size", "size_unit", "target", "key")


def _trigger(arrays: Mapping[str, Any]) -> MaskedTrigger | AdditiveTrigger:
    return AdditiveTrigger(**arrays) if "delta" in arrays else MaskedTrigger(**arrays)
