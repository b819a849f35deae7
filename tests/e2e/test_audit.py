"""One audit through the whole service: submit, follow, read; and a worker killed in the middle of it."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from samples.photographs import build_archives
from tests.e2e.conftest import Serving, await_

SAMPLES = Path(__file__).parents[2] / "samples"
SHORT = {
    "detection": {
        "steps": 4,
        "additive_steps": 4,
        "spectral_steps": 4,
        "window_steps": 15,
        "square_stride": 0.25,
        "square_images": 2,
        "target_steps": 2,
        "batch_size": 8,
    }
}
SHORT_PURIFY = {**SHORT, "purification": {"steps": 40, "batch_size": 32}}


@pytest.fixture(scope="module")
def encoder() -> bytes:
    """The demo's backdoored encoder; its card travels in its metadata."""
    return (SAMPLES / "backdoored.safetensors").read_bytes()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A zip archive of 96 of the demo's clean images."""
    *_, clean = build_archives(tmp_path_factory.mktemp("photographs"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(clean) as source, zipfile.ZipFile(buffer, "w") as archive:
        for name in source.namelist()[::5][:96]:
            archive.writestr(name, source.read(name))
    return buffer.getvalue()


def as_tar(images: bytes) -> bytes:
    """The zip's files in a compressed tar."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(images)) as source, tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in source.namelist():
            info = tarfile.TarInfo(name)
            info.size = source.getinfo(name).file_size
            archive.addfile(info, io.BytesIO(source.read(name)))
    return buffer.getvalue()


def submit(serving: Serving, encoder: bytes, images: bytes, kind: str, parameters: dict[str, Any]) -> str:
    answer = serving.http.post(
        "/audits",
        files={"encoder": ("tiny.safetensors", encoder), "images": ("images.zip", images)},
        data={"kind": kind, "parameters": json.dumps(parameters), "seed": "3"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def state(serving: Serving, audit: str) -> dict[str, Any]:
    body: dict[str, Any] = serving.http.get(audit).json()
    return body


def follow(serving: Serving, audit: str) -> dict[str, Any]:
    """Poll until the audit has ended; it must have succeeded."""
    await_(lambda: state(serving, audit)["state"] not in ("queued", "running"), "the audit ends")
    body = state(serving, audit)
    assert body["state"] == "succeeded", body
    return body


def test_an_encoder_is_audited_and_the_result_downloaded(
    serving: Serving, encoder: bytes, images: bytes, tmp_path: Path
) -> None:
    audit = submit(serving, encoder, as_tar(images), "purify", SHORT_PURIFY)
    body = follow(serving, audit)
    assert body["verdict"] == "backdoored"
    assert body["progress"] == 1
    assert 0 < body["forecast"]["seconds_low"] < body["forecast"]["seconds_high"]
    assert body["forecast"]["passes"] > 1000 and body["forecast"]["memory_bytes"] > 2**20
    report = serving.http.get(body["links"]["report"]).json()
    assert report["verdict"] == body["verdict"]
    page = serving.http.get(body["links"]["report"], headers={"accept": "text/html"}).text
    assert page.lstrip().lower().startswith("<!doctype html")
    delivered = serving.http.get(body["links"]["encoder"])
    assert delivered.status_code == 200
    given, got = load(encoder), load(delivered.content)
    assert {name: value.shape for name, value in got.items()} == {name: value.shape for name, value in given.items()}
    assert all(bool(torch.isfinite(value.float()).all()) for value in got.values())


def test_a_worker_killed_in_mid_audit_costs_nothing_but_time(serving: Serving, images: bytes) -> None:
    # The clean twin, whose audit ends with the search: no copy of it has to be made to be sure.
    encoder = (SAMPLES / "clean.safetensors").read_bytes()
    longer = {"detection": {**SHORT["detection"], "additive_steps": 40}}
    undisturbed = follow(serving, submit(serving, encoder, images, "detect", longer))
    assert undisturbed["verdict"] == "inconclusive"  # so short a search acquits nobody

    audit = submit(serving, encoder, images, "detect", longer)
    # The first stage is over, so that there is a checkpoint to go on from.
    await_(lambda: "additive" in (state(serving, audit).get("stage") or ""), "the second stage runs")
    worker = serving.child("-m", "worker")
    for each in (worker, *worker.children(recursive=True)):
        each.kill()
    psutil.wait_procs([worker], timeout=30)
    body = follow(serving, audit)
    assert body["attempt"] >= 2
    assert "resumed from checkpoint" in serving.said()
    assert (body["verdict"], body["score"]) == (undisturbed["verdict"], undisturbed["score"])
    names = [item["name"] for item in serving.http.get(f"{audit}/artifacts").json()["items"]]
    assert len(names) == len(set(names))
    assert "report.json" in names


def test_a_running_audit_is_cancelled(serving: Serving, encoder: bytes, images: bytes) -> None:
    audit = submit(serving, encoder, images, "detect", {"detection": {**SHORT["detection"], "steps": 2000}})
    await_(lambda: state(serving, audit)["state"] == "running", "the audit runs")
    assert serving.http.post(f"{audit}/cancel").status_code == 202
    await_(lambda: state(serving, audit)["state"] == "cancelled", "the audit stops")


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"encoder": "nan"}, {"not_finite"}),
        ({"images": "text"}, {"no_images", "too_few_images"}),
    ],
    ids=["NaN weights", "zip of text files"],
)
def test_what_only_the_worker_can_see_fails_with_its_reason(
    change: dict[str, str], codes: set[str], serving: Serving, encoder: bytes, images: bytes
) -> None:
    if "encoder" in change:
        weights = load(encoder)
        first = next(name for name, value in weights.items() if value.is_floating_point())
        weights[first] = torch.full_like(weights[first], float("nan"))
        with safe_open(SAMPLES / "backdoored.safetensors", framework="pt") as file:
            encoder = save(weights, metadata=file.metadata())
    if "images" in change:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for number in range(30):
                archive.writestr(f"{number}.txt", "no picture")
        images = buffer.getvalue()
    audit = submit(serving, encoder, images, "detect", SHORT)
    await_(lambda: state(serving, audit)["state"] not in ("queued", "running"), "the audit ends")
    body = state(serving, audit)
    assert body["state"] == "failed", body
    assert body["failure"]["code"] in codes
    assert {"found", "expected", "action"} <= body["failure"].keys()
    assert "verdict" not in body
