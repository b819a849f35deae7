"""What cleansing costs: the search's seconds per scored image against the bare passes that it stands for, and what the
default's approximations save.

An image is scored by one pass for each mask and one for each flip image. *exact* does all of them, in fp32; *default*
gives hopeless candidates up early. The first test times both on a ResNet-18, the second counts what each needs to find
the same poisoned images in a set whose encoder obeys the patch. Nothing is asserted.
"""

from __future__ import annotations

import pytest
import torch

from core.catalog import KINDS, read_parameters
from core.cleansing.config import CleansingConfig
from core.cleansing.poison_cam import PoisonCamConfig, cleanse
from core.cleansing.search import STAGE
from core.device import resolve_device
from core.encoders.fresh import fresh_encoder
from core.encoders.stems import training_card
from core.types import Encoder
from tests.benchmarks.passes import Stopwatch, counted
from tests.planted import SIZE, planted_images
from tests.unit.cleansing.planted_set import PlantedSet, planted_set

CLUSTERS = 12


def config_of(preset: str, **values: object) -> PoisonCamConfig:
    sent = {"preset": preset, "cleansing": {"method": "poison_cam", "clusters": CLUSTERS, **values}}
    config = read_parameters(KINDS["cleanse"], sent).chosen["cleansing"].config
    assert isinstance(config, PoisonCamConfig)
    return config


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    made = fresh_encoder(training_card("torchvision/resnet18", SIZE, stem="fast"), seed=0)
    return made.requires_grad_(False).to(resolve_device("auto"), memory_format=torch.channels_last)


def scored_of(planted: PlantedSet, config: CleansingConfig) -> tuple[Stopwatch, int, float]:
    """The clock, how many images were scored, and the share of the poisoned images that were removed."""
    subject, clock = counted(planted.encoder)
    found = cleanse(subject, planted.images, config, clock, seed=0)
    removed = set((~found.keep).nonzero().flatten().tolist())
    scored = sum(search_round.scored for search_round in found.rounds)
    return clock, scored, len(removed & planted.poisoned.keys()) / len(planted.poisoned)


@pytest.mark.parametrize("preset", ["exact", "default"])
def test_seconds_per_scored_image(preset: str, encoder: Encoder) -> None:
    config = config_of(preset)
    subject, clock = counted(encoder, half=config.half_precision)
    found = cleanse(subject, planted_images(480), config, clock, seed=0)
    seconds, passes = clock.stages[STAGE]
    scored = sum(search_round.scored for search_round in found.rounds)
    bare = clock.bare(learning=False)
    whole = config.masks + min(config.flip_images, 480)
    print(
        f"\n{preset}: {seconds / scored:.4f} s per scored image, {passes.looking / scored:.0f} passes each; "
        f"{whole} bare passes take {whole * bare:.4f} s: {whole * bare * scored / seconds:.2f} of their speed, "
        f"{passes.looking * bare / seconds:.2f} of that of the passes that were made"
    )


def test_passes_for_the_same_poison() -> None:
    planted = planted_set(960)
    print()
    for preset in ("exact", "default"):
        clock, scored, recall = scored_of(planted, config_of(preset))
        _, passes = clock.stages[STAGE]
        print(f"{preset}: {passes.looking / scored:.0f} passes per scored image, {recall:.1%} of the poisoned removed")
