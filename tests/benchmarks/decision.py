"""What each search and each control is worth to the decision, on the encoders of a population that were examined.

    python -m tests.benchmarks.decision zoo/population.yaml --zoo zoo-population --examined examined --part design

Every encoder is judged without the encoders of its own recipe. Printed, for all evidence and with each search and each
control left out: clean encoders with a family-wise p of at most .05 and .001, backdoored ones with at most .001, and
the area under the ROC of p. "Weak" are attacks that stayed below their floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from sklearn.metrics import roc_auc_score

from core.decision.evidence import Evidence, Examination
from core.decision.null_distribution import fitted
from core.decision.population import Calibration, Fit, ReferenceEncoder
from core.decision.rule import FALSE_POSITIVE_RATE, judge, strength
from core.recovery.examination import ANOTHER_TARGET, OTHER_PLACES
from core.zoo.examine import Work, kept
from core.zoo.recipe import load_recipe
from core.zoo.record import read_record

Change = Callable[[Evidence], Evidence | None]
"""What becomes of one search's evidence; None where it is left out."""


@dataclass(frozen=True)
class Known:
    """An encoder and what it is: clean, planted, weak (an attack below its floor) or poisoned."""

    encoder: ReferenceEncoder
    kind: str


def known_encoders(recipe: Path, zoo: Path, folder: Path, parts: Sequence[str], preset: str) -> list[Known]:
    """The encoders of these parts that were examined, in the recipe's order."""
    found = []
    for entry in load_recipe(recipe).encoders:
        seen = kept(Work(recipe, zoo, zoo, folder, entry.name, preset)) if entry.part in parts else None
        record = read_record(zoo / "records" / f"{entry.name}.json")
        if seen is not None and record is not None:
            attacked = "poisoned" if entry.poisoning is not None else "planted" if record.accepted else "weak"
            found.append(Known(seen, "clean" if seen.attack is None else attacked))
    return found


def p_values(encoders: Sequence[Known], change: Change) -> list[float]:
    """The family-wise p of each encoder, judged without its recipe."""
    changed = [replace(one, encoder=_changed(one.encoder, change)) for one in encoders]
    clean = tuple(one.encoder for one in changed if one.kind == "clean")
    whole = Calibration("", {}, clean)
    fits = {}
    for key in {evidence.key for one in clean for evidence in one.examination.evidence}:
        sample = whole.sample(key)
        assert sample is not None
        null = fitted(sample)
        fits[key] = Fit(null.scales, null.tail)
    by_recipe = {
        recipe: Calibration("", {}, tuple(one for one in clean if one.recipe != recipe), fits)
        for recipe in {one.encoder.recipe for one in changed}
    }
    return [
        min(one.adjusted or 1.0 for one in judge(known.encoder.examination, by_recipe[known.encoder.recipe]))
        for known in changed
    ]


def variants(encoders: Sequence[Known]) -> dict[str, Change]:
    """Name -> what is left out."""
    searches = dict.fromkeys(evidence.search for one in encoders for evidence in one.encoder.examination.evidence)

    def without_search(name: str) -> Change:
        return lambda evidence: None if evidence.search == name else evidence

    def without_control(name: str) -> Change:
        def change(evidence: Evidence) -> Evidence:
            return replace(evidence, controls={key: x for key, x in evidence.controls.items() if key != name})

        return change

    named: dict[str, Change] = {"everything": lambda evidence: evidence}
    named |= {f"without the search {name}": without_search(name) for name in searches}
    named |= {f"without the control {name}": without_control(name) for name in (ANOTHER_TARGET, OTHER_PLACES)}
    return named


def row(name: str, encoders: Sequence[Known], p: Sequence[float]) -> str:
    """One line of the table."""
    of = {kind: [value for one, value in zip(encoders, p, strict=True) if one.kind == kind]
          for kind in ("clean", "planted", "weak", "poisoned")}  # fmt: skip

    def share(values: Sequence[float], level: float) -> str:
        return f"{sum(value <= level for value in values)} of {len(values)}"

    def area(*kinds: str) -> str:
        bad = [strength(value) for kind in kinds for value in of[kind]]
        if not bad:
            return "-"
        good = [strength(value) for value in of["clean"]]
        return f"{roc_auc_score([0] * len(good) + [1] * len(bad), good + bad):.3f}"

    cells = [name, share(of["clean"], 0.05), share(of["clean"], FALSE_POSITIVE_RATE)]
    cells += [share(of[kind], FALSE_POSITIVE_RATE) for kind in ("planted", "weak", "poisoned")]
    return "| " + " | ".join([*cells, area("planted"), area("planted", "weak", "poisoned")]) + " |"


def _changed(encoder: ReferenceEncoder, change: Change) -> ReferenceEncoder:
    rows = tuple(kept for evidence in encoder.examination.evidence if (kept := change(evidence)) is not None)
    return replace(encoder, examination=Examination(encoder.examination.context, rows))


def main(
    recipe: Path,
    zoo: Annotated[Path, typer.Option()],
    examined: Annotated[Path, typer.Option()],
    part: Annotated[list[str], typer.Option()],
    preset: str = "default",
) -> None:
    encoders = known_encoders(recipe, zoo, examined, part, preset)
    print(
        "| evidence | clean, p <= .05 | clean, p <= .001 | planted, p <= .001 | weak | poisoned | AUROC planted | all |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, change in variants(encoders).items():
        print(row(name, encoders, p_values(encoders, change)), flush=True)


if __name__ == "__main__":
    typer.run(main)
