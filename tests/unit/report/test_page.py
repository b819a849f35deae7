"""The page is one file, shows what the JSON says, and no name in it can become markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from core.kinds.findings import Findings
from core.report.build import build_report
from core.report.page import render_page, reproduce
from core.report.pictures import trigger_pictures
from tests.unit import audited


class Page(HTMLParser):
    """Elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def rendered(name: str = "encoder.safetensors") -> Page:
    report = build_report(audited.purified(), audited.circumstances(name=name))
    return Page(render_page(report, trigger_pictures(audited.patch(), audited.images())))


def test_embedded_json_is_the_report() -> None:
    report = build_report(audited.purified(), audited.circumstances())
    (script,) = Page(render_page(report, ())).scripts
    assert json.loads(script) == report.to_json()


def test_a_hostile_file_name_stays_text() -> None:
    page = rendered(audited.HOSTILE)
    assert len(page.all("script")) == 1
    assert [image for image in page.all("img") if "onerror" in image] == []
    assert audited.HOSTILE in page.text
    assert json.loads(page.scripts[0])["encoder"]["name"] == audited.HOSTILE


def test_page_needs_nothing_beside_it() -> None:
    page = rendered()
    sources = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")]
    assert len(sources) == 3
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)


def test_every_picture_and_drawing_has_words() -> None:
    page = rendered()
    assert all(image["alt"] for image in page.all("img"))
    drawings = page.all("svg")
    assert len(drawings) == 4  # two kinds of trigger, the loss, and one kind on the purified encoder
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)


def test_what_was_read_and_assumed_stands_in_the_first_lines() -> None:
    part = audited.circumstances().encoder
    text = rendered().text
    assert text.index(part.audited) < text.index(part.assumptions[0]) < text.index("What was audited")


def test_a_score_that_proves_nothing_is_shown_as_such() -> None:
    report = build_report(Findings(audited.blown_up()), audited.circumstances())
    assert [row.blown_up for row in report.hypotheses] == [[0.97], []]
    page = Page(render_page(report, trigger_pictures(audited.patch(), audited.images())))
    assert page.text.count("no proof: it drives the encoder out of its range") == 1
    assert "it is no proof of a backdoor" in page.text and "does not reach the threshold" not in page.text
    assert "no proof" not in rendered().text


@pytest.mark.parametrize(
    "findings", [Findings(audited.clean()), Findings(audited.clean(), delivered=audited.encoder()), audited.purified()]
)
def test_what_was_not_tested_and_the_verdict_are_shown(findings: Findings) -> None:
    kind = "detect" if findings.delivered is None else "purify"
    report = build_report(findings, audited.circumstances(kind))
    page = Page(render_page(report, ()))
    assert report.verdict.value.capitalize() in page.text
    assert all(item in page.text for item in (*report.untested, *report.reasons))
    assert report.encoder.sha256 in page.text


def test_command_that_repeats_the_audit_quotes_names() -> None:
    report = build_report(Findings(audited.clean()), audited.circumstances("detect", name="my encoder.pt"))
    words = reproduce(report)
    assert words.startswith("encoder-audit detect 'my encoder.pt' shadow.zip --seed 7")
    assert "--set detection.method=ssldefender" in words
