"""All searches of one encoder as evidence: planted backdoors stand out from what else can be reached, twins do not."""

import pytest

from core.decision.evidence import Evidence
from core.recovery.examination import ANOTHER_TARGET, OTHER_PLACES, examine
from core.recovery.forward import frozen
from core.recovery.ssldefender_search import SSLDefenderConfig
from core.run import QuietRun
from tests.planted import Planted, planted_additive, planted_images, planted_patch

QUICK = SSLDefenderConfig(
    thresholds=(0.9995, 0.9995),
    steps=60,
    additive_steps=40,
    spectral_steps=20,
    batch_size=24,
    square_stride=0.125,
    amplitude=16 / 255,
)


def evidence_of(encoder) -> dict[str, Evidence]:
    seen = examine(frozen(encoder), planted_images(96), QUICK, QuietRun(), seed=0).examination
    assert not seen.missing
    return {one.search: one for one in seen.evidence}


@pytest.mark.parametrize(("plant", "search"), [(planted_patch, "masked"), (planted_additive, "additive")])
def test_a_planted_target_is_easier_to_reach_than_any_other(plant: type[Planted], search: str) -> None:
    planted = plant()
    suspect, twin = evidence_of(planted.encoder), evidence_of(planted.twin)
    assert suspect[search].statistic > twin[search].statistic + 1


def test_every_search_reports_its_bound_and_its_controls() -> None:
    planted = planted_patch()
    seen = examine(frozen(planted.encoder), planted_images(96), QUICK, QuietRun(), seed=0)
    rows = {one.key: one for one in seen.examination.evidence}
    assert list(rows) == [
        "masked-anywhere@0.03", "masked@0.03", "opaque-patch@0.19", "plain-square@0.375", "additive@0.06275",
        "spectral@1.6", "decree@0.99",
    ]  # fmt: skip
    assert set(rows["opaque-patch@0.19"].controls) == {ANOTHER_TARGET, OTHER_PLACES}
    assert set(rows["masked-anywhere@0.03"].controls) == set(rows["additive@0.06275"].controls) == {ANOTHER_TARGET}
    assert rows["masked@0.03"].controls[ANOTHER_TARGET] == rows["opaque-patch@0.19"].controls[ANOTHER_TARGET]
    assert rows["decree@0.99"].effect > 0  # a mask was found that leaves a part of the image
    context = seen.examination.context
    assert (context.side, context.images) == (planted.encoder.image_size[0], 96)
    assert -1 <= context.clean_similarity <= 1 and context.contrast > 0
