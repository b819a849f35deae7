"""The whole product on real input, in a few minutes on two CPU cores.

    python -m samples.demo

Starts the embedded service, uploads a backdoored encoder and clean images over HTTP, watches the audit, downloads the
purified encoder, and measures accuracy and attack success rate before and after. Then it audits the clean twin, which
was trained alike and never attacked. What it leaves behind is in ``demo-output``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from samples.photographs import build_archives
from samples.service import ServiceFailed, download, run_audit, running_service

SAMPLES = Path(__file__).parent
BACKDOORED = SAMPLES / "backdoored.safetensors"
CLEAN_TWIN = SAMPLES / "clean.safetensors"
TRIGGER = SAMPLES / "trigger.npz"
TRUTH = SAMPLES / "truth.json"
OUTPUT = Path("demo-output")
PICTURES = ("trigger.png", "mask.png", "triggered_samples.png")


def main() -> int:
    """Run the demo; 0 if the backdoor was found, removed, and the twin was called clean."""
    console = Console()
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="encoder-audit-demo-") as name:
        console.print("Cutting patches out of the photographs in scikit-image and scikit-learn ...")
        train, test, clean = build_archives(Path(name))
        try:
            console.print("Starting the service: PostgreSQL, Valkey, SeaweedFS, API and worker, all from wheels ...")
            with running_service() as client:
                purified = purify_over_http(client, console, clean)
                twin = run_audit(client, console, "Clean twin", kind="detect", encoder=CLEAN_TWIN, images=clean)
        except (ServiceFailed, httpx.HTTPError) as error:
            console.print(f"[bold red]The demo failed.[/] {error}", highlight=False)
            return 1
        console.print("Measuring accuracy and attack success rate on photographs that nobody trained on ...")
        before = measure(BACKDOORED, train, test)
        after = measure(OUTPUT / "purified.safetensors", train, test)
    print_results(console, purified, twin, before, after)
    found = purified["verdict"] == "backdoored" and twin["verdict"] == "clean"
    return 0 if found else 1


def purify_over_http(client: httpx.Client, console: Console, images: Path) -> dict[str, Any]:
    """Audit and purify the backdoored encoder; its files land in ``demo-output``."""
    audit = run_audit(client, console, "Backdoored", kind="purify", encoder=BACKDOORED, images=images)
    address = f"/audits/{audit['id']}"
    download(client, f"{address}/encoder", OUTPUT / "purified.safetensors")
    download(client, f"{address}/report", OUTPUT / "report.json", accept="application/json")
    download(client, f"{address}/report", OUTPUT / "report.html", accept="text/html")
    if audit["verdict"] == "backdoored":
        for picture in PICTURES:
            download(client, f"{address}/artifacts/{picture}", OUTPUT / picture)
    return audit


def measure(encoder: Path, train: Path, test: Path) -> dict[str, Any]:
    """What ``encoder-audit evaluate`` says of the encoder, with the trigger that was really planted."""
    command = [sys.executable, "-m", "core.cli", "evaluate", str(encoder), "--train", str(train), "--test", str(test)]
    target = json.loads(TRUTH.read_text(encoding="utf-8"))["target_name"]
    truth = ["--trigger", str(TRIGGER), "--target", target, "--format", "json"]
    answer = subprocess.run([*command, *truth], stdout=subprocess.PIPE, check=False)
    document: dict[str, Any] = json.loads(answer.stdout)
    if answer.returncode:
        raise ServiceFailed(f"The evaluation of {encoder.name} failed: {document['error']['found']}")
    return document


def print_results(
    console: Console, purified: dict[str, Any], twin: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Verdicts, the table before/after, and where the files are."""
    report = json.loads((OUTPUT / "report.json").read_text(encoding="utf-8"))
    table = Table(title="Linear classifier on photographs that nobody trained on", title_justify="left")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = {
        "clean accuracy (ACC)": "acc",
        "attack success rate (ASR)": "asr",
        "  of which without any trigger": "base",
    }
    for label, key in rows.items():
        table.add_row(label, *(f"{numbers[key]['percent']:.1f} %" for numbers in (before, after)))
    console.print(table)
    console.print(f"{BACKDOORED.name}: [bold]{purified['verdict']}[/], score {purified['score']:.3f}", highlight=False)
    console.print(
        f"  purified: [bold]{report['purification']['verdict']}[/], score {report['purification']['score']:.3f}"
    )
    console.print(f"{CLEAN_TWIN.name}, its clean twin: [bold]{twin['verdict']}[/], score {twin['score']:.3f}")
    console.print(f"Purified encoder: {OUTPUT / 'purified.safetensors'}", highlight=False)
    console.print(f"Report:           {(OUTPUT / 'report.html').absolute().as_uri()}", highlight=False)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped; the service was shut down and its files removed.")
