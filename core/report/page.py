"""The report as one HTML file that needs nothing beside it: pictures are data URIs, drawings are inline SVG."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.report.charts import HEIGHT, WIDTH, gauge, histogram, loss_curve
from core.report.model import Report
from core.report.pictures import Picture
from core.types import Verdict

SENTENCES = {
    Verdict.BACKDOORED: "A hidden trigger pulls unrelated images together in this encoder.",
    Verdict.POISONED: "Many of these images carry the same patch, and an encoder trained on them obeys it.",
    Verdict.CLEAN: "None of the triggers that were looked for acts like a backdoor.",
    Verdict.INCONCLUSIVE: "The evidence decides neither way. Do not read this as clean.",
}
CLEAN_SET = "No patch that several images share moves other images into their cluster."


def render_page(report: Report, pictures: Sequence[Picture]) -> str:
    """The page for ``report`` with ``pictures`` of its best trigger, or of what a set's cleansing found."""
    environment = Environment(
        loader=PackageLoader("core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["seconds"] = _seconds
    environment.filters["size"] = _size
    purified = report.purification
    before = {row.kind: row for row in report.hypotheses}
    after = {row.kind: row for row in purified.hypotheses} if purified else {}
    found = report.cleansing
    shown = [(picture, _data_uri(picture)) for picture in pictures]
    of_candidates = [pair for pair in shown if pair[0].name.startswith("candidate-")]
    return environment.get_template("report.html").render(
        report=report,
        sentence=CLEAN_SET if found and report.verdict is Verdict.CLEAN else SENTENCES[report.verdict],
        started=datetime.fromisoformat(report.started),
        gauges=[gauge(row, report.clean_similarity, after.get(row.kind)) for row in report.hypotheses],
        gauges_after=[gauge(row, report.clean_similarity, before.get(row.kind)) for row in after.values()],
        curve=loss_curve(purified.loss, purified.steps) if purified else None,
        curve_width=WIDTH,
        curve_height=HEIGHT,
        pictures=shown,
        candidates=[(row, *pair) for row, pair in zip(found.candidates, of_candidates, strict=False)] if found else [],
        histogram=histogram(found.distribution) if found and found.distribution else None,
        command=reproduce(report),
        document=_script_json(report),
    )


def reproduce(report: Report) -> str:
    """The command that repeats this audit, given the same files."""
    words = ["encoder-audit", report.kind]
    if report.cleansing is None:
        words += [report.encoder.name, report.images.name]
    else:
        given = report.cleansing.threat_model is None
        words += [report.images.name, *(["--encoder", report.encoder.name] if given else []), "--output", "cleansed"]
    if report.kind == "purify":
        words += ["--output", "purified" + (PurePosixPath(report.encoder.name).suffix or ".safetensors")]
    words += ["--seed", str(report.seed)]
    for section, method in report.methods.items():
        settings = {"method": method.key, "preset": method.preset, **method.overrides}
        for key, value in settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            words += ["--set", f"{section}.{key}={text}"]
    return shlex.join(words)


def _data_uri(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.png).decode()


def _script_json(report: Report) -> Markup:
    """JSON that no name in it can break out of its script element (``</script>``, ``<!--``)."""
    text = report.model_dump_json(by_alias=True)
    for character, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028")):
        text = text.replace(character, escaped)
    return Markup(text)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "n/a"
    if value != 0 and (abs(value) >= 10_000 or abs(value) < 10**-digits):
        return f"{value:.{max(digits - 1, 1)}e}"
    return f"{value:.{digits}f}"


def _seconds(value: float) -> str:
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{value:.1f} s"


def _size(value: int) -> str:
    amount: Any = value
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount = amount / 1000
    return f"{amount:.2f} GB"
