"""Measure the yardstick of verdicts: what a zoo's clean encoders score in each search."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core.encoders.load import load_encoder
from core.errors import UnsupportedInput
from core.images.load import load_images
from core.recovery.bands import Band, bands_json, read_bands
from core.recovery.nulls import Observation, family_of
from core.recovery.ssldefender import clean_scores
from core.recovery.ssldefender_search import SSLDefenderConfig
from core.run import Run, StageRun
from core.training.checkpoints import versions


@dataclass(frozen=True)
class CleanEncoder:
    """A clean encoder's name in its zoo and its weights."""

    name: str
    weights: Path


def clean_encoders(zoos: Sequence[Path]) -> list[CleanEncoder]:
    """The encoders that the zoos' ``index.json`` call neither backdoored nor failed, in order.

    Raises:
        UnsupportedInput: no index, or no clean encoder.
    """
    found = []
    for zoo in zoos:
        try:
            rows = json.loads((zoo / "index.json").read_text(encoding="utf-8"))["encoders"]
        except (OSError, ValueError, KeyError) as error:
            raise UnsupportedInput(
                "no_index",
                field="zoo",
                found=f"'{zoo}' without a readable index.json",
                expected="a folder that 'encoder-audit zoo build' made",
                action="Build the zoo first.",
            ) from error
        for name, row in rows.items():
            if row["accepted"] and not row["backdoored"]:
                found.append(CleanEncoder(name, zoo / row["weights"]))
    if not found:
        raise UnsupportedInput(
            "no_clean_encoder",
            field="zoo",
            found="no clean encoder",
            expected="clean encoders: they are the yardstick",
            action="Build some; their recipes have neither poisoning nor backdoor.",
        )
    return found


def calibrate(
    encoders: Sequence[CleanEncoder],
    images: Path,
    output: Path,
    presets: Sequence[str],
    run: Run,
    *,
    seeds: int,
    device: torch.device,
    keep: bool = False,
) -> Iterator[tuple[str, Observation]]:
    """Search every clean encoder with every preset; yields (preset, what was seen) and keeps ``output`` up to date.

    What stands in ``output`` already, for the same weights and as many seeds, is not searched again; with ``keep`` the
    other encoders in it stay.
    """
    known = read_bands(output.read_text(encoding="utf-8")) if output.is_file() else ()
    bands: list[Band] = []
    for preset in presets:
        config = SSLDefenderConfig.model_validate({} if preset == "default" else SSLDefenderConfig.presets[preset])
        values = config.model_dump(mode="json")
        already = [one for band in known if dict(band.config) == values for one in band.observed]
        before = {(one.sha256, one.seeds): one for one in already}
        observed: list[Observation] = list(already) if keep else []
        for encoder in encoders:
            loaded = load_encoder(encoder.weights)
            seen = before.get((loaded.digest, seeds))
            if seen is None:
                network = loaded.encoder.to(device)
                pictures = load_images(images, network.image_size)
                scores = [
                    clean_scores(
                        network, pictures, config, StageRun(run, f"{preset}, {encoder.name}, {seed}"), seed=seed
                    )
                    for seed in range(seeds)
                ]
                # Growth is missing where half the strength does nothing.
                common = set.intersection(*map(set, scores))
                mean = {name: sum(one[name] for one in scores) / seeds for name in scores[0] if name in common}
                family = family_of(network.architecture, network.image_size)
                seen = Observation(encoder.name, family, loaded.digest, seeds, mean)
            observed = [*(one for one in observed if one.sha256 != loaded.digest), seen]
            notes = {"images": images.name, "versions": versions()}
            whole = [*bands, Band(preset, values, tuple(observed))]
            rest = [band for band in known if band.preset not in {one.preset for one in whole}]
            output.write_text(bands_json([*whole, *rest], notes), encoding="utf-8")
            yield preset, seen
        bands.append(Band(preset, values, tuple(observed)))
