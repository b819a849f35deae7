from __future__ import annotations

from dataclasses import replace

import pytest

from core.catalog import KINDS, budgets_of, read_parameters
from core.errors import UsageError
from core.forecast.forecast import Forecast, forecast_of
from core.forecast.limit import check_limit
from core.forecast.memory import expected_peak
from core.forecast.outline import MOST_TARGETS, Part
from core.forecast.probe import Speeds, measure_speeds, per_image_of
from core.forecast.weighed_run import WeighedRun
from core.forecast.words import duration, parse_duration, size, span
from core.kinds.findings import Subject
from core.memory import memory_budget
from core.micro_batches import cost_of
from core.passes import Passes
from core.recovery.forward import frozen
from core.run import QuietRun
from tests.unit.forecast.counting import CountedRun, counted_encoder, noise_images


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(counted_encoder(32, CountedRun()), noise_images(60, 32), 0)


def forecast(kind: str, subject: Subject, **parameters: object) -> Forecast:
    """At a thousand images a second forward, and half as many with a gradient."""
    chosen = KINDS[kind]
    measured = forecast_of(chosen.outline(subject, read_parameters(chosen, parameters)), subject, seconds=0.01)
    at_known_speed = replace(measured, speeds=Speeds(0.001, 0.002, 0.003))
    return at_known_speed.of_other(tuple(one.part for one in measured.parts))


def test_a_clean_encoder_costs_the_search_and_no_more(subject: Subject) -> None:
    told = forecast("detect", subject)
    search = read_parameters(KINDS["detect"], {}).chosen["detection"].passes(subject.load)
    assert told.passes == round(sum(passes.images for passes in search.values()))
    seconds = sum(0.001 * one.forward + 0.002 * one.backward for one in search.values())
    assert told.seconds_low == pytest.approx(seconds)
    assert told.seconds_high > 2 * told.seconds_low
    names = {name for one in told.parts for name in one.part.stages}
    assert {"surrogate: unlearn", f"target {MOST_TARGETS}: patterns"} <= names


def test_what_purify_and_canary_may_add(subject: Subject) -> None:
    detect, purify, canary = (forecast(kind, subject) for kind in ("detect", "purify", "canary"))
    assert purify.seconds_low == pytest.approx(detect.seconds_low)
    assert purify.seconds_high > detect.seconds_high
    planting = next(one for one in canary.parts if "planting" in one.part.name)
    assert planting.part.certain and planting.part.passes.training == 4 * 200 * (2 * 37 + 2)
    assert canary.seconds_low == pytest.approx(detect.seconds_low + planting.seconds_low)
    assert canary.stage_seconds["blended random colours: plant backdoor"] > 0


def test_a_search_that_may_end_early_has_a_range(subject: Subject) -> None:
    told = forecast("detect", subject, detection={"method": "decree"})
    assert told.seconds_low < told.seconds_high
    weights = sum(told.stage_seconds.values())
    assert told.seconds_low < weights < told.seconds_high


def test_an_encoder_to_be_trained_is_part_of_the_cost(subject: Subject) -> None:
    from core.encoders.stems import training_card

    given = forecast("cleanse", subject)
    trained = forecast("cleanse", replace(subject, fresh=training_card("torchvision/resnet18", 32, stem="fast")))
    assert trained.seconds_low > given.seconds_low + 800 * 2 * 60 * 0.003 * 0.99


def test_speeds_are_measured_for_what_is_needed(subject: Subject) -> None:
    before = {name: tensor.clone() for name, tensor in subject.encoder.state_dict().items()}
    only_forward = measure_speeds(subject.encoder, subject.images, Passes(forward=1), seconds=0.01)
    assert only_forward.forward > 0 and only_forward.backward == only_forward.training == 0
    everything = measure_speeds(subject.encoder, subject.images, Passes(1, 1, 1), seconds=0.01)
    assert min(everything.forward, everything.backward, everything.training) > 0
    assert all((tensor == before[name]).all() for name, tensor in subject.encoder.state_dict().items())


def test_budgets_are_presets_by_their_public_names() -> None:
    kind = KINDS["detect"]
    assert read_parameters(kind, {"budget": "standard"}).chosen["detection"].preset == "default"
    quick = read_parameters(kind, {"budget": "quick", "detection": {"steps": 7}}).chosen["detection"]
    assert quick.preset == "quick" and quick.config.model_dump()["steps"] == 7
    assert list(budgets_of(kind, {"preset": "paper", "detection": {"steps": 7}}))[:2] == ["quick", "standard"]
    with pytest.raises(UsageError) as refused:
        read_parameters(kind, {"budget": "quick", "preset": "paper"})
    assert (refused.value.problem.code, refused.value.problem.field) == ("invalid_parameter", "parameters.budget")
    with pytest.raises(UsageError) as unknown:
        read_parameters(KINDS["cleanse"], {"budget": "thorough"})
    assert (unknown.value.problem.code, unknown.value.problem.expected) == ("unknown_budget", "one of quick, standard")


def test_a_limit_names_a_budget_that_fits_and_following_it_works(subject: Subject) -> None:
    budgets = {name: forecast("detect", subject, budget=name) for name in ("quick", "standard")}
    standard, quick = budgets["standard"], budgets["quick"]
    limit = 1.3 * quick.seconds_low
    assert limit < standard.seconds_low
    with pytest.raises(UsageError) as refused:
        check_limit(limit, standard, budgets)
    problem = refused.value.problem
    assert (problem.code, problem.field) == ("too_expensive", "time_limit")
    assert span(standard.seconds_low, standard.seconds_high) in problem.found and duration(limit) in problem.expected
    assert "--budget quick" in problem.action
    check_limit(limit, quick, budgets)
    longer = problem.action.split("--time-limit ")[1].split()[0]
    check_limit(parse_duration(longer), standard, budgets)
    check_limit(None, standard, budgets)


def test_a_limit_that_nothing_keeps_to_says_so(subject: Subject) -> None:
    told = forecast("detect", subject)
    with pytest.raises(UsageError, match="No budget fits"):
        check_limit(1.0, told, {"quick": told})


def test_plans_become_seconds() -> None:
    class Planned(QuietRun):
        def plan(self, stages):  # type: ignore[no-untyped-def]
            self.stages = stages

    run = Planned()
    weighed = WeighedRun(run, {"search": 30.0, "verify: search": 20.0, "unlearn": 50.0})
    weighed.plan({"search": 1.0, "verify: search": 1.0, "round 2: unlearn": 2.0, "unheard of": 2.0})
    assert run.stages == {"search": 30.0, "verify: search": 20.0, "round 2: unlearn": 50.0, "unheard of": 50.0}
    assert list(weighed.steps("search", 3)) == [0, 1, 2]
    assert Part("search", {"search": Passes(1, 2)}).passes == Passes(1, 2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (40, "40 seconds"),
        (720, "12 minutes"),
        (9000, "2.5 hours"),
        (7200, "2 hours"),
        (3e5, "3.5 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_ranges_and_sizes() -> None:
    assert span(720, 1800) == "12 to 30 minutes"
    assert span(40, 720) == "40 seconds to 12 minutes"
    assert span(720, 722) == "about 12 minutes"
    assert (size(3 * 2**29), size(5 * 2**20)) == ("1.5 GiB", "5 MiB")
    assert [parse_duration(text) for text in ("90s", "30 m", "2h", "1.5d")] == [90, 1800, 7200, 129600]
    for text in ("", "2", "h", "-1h", "0m", "two hours"):
        with pytest.raises(UsageError, match="time_limit"):
            parse_duration(text)


def test_the_peak_keeps_to_the_budget_and_counts_what_comes_on_top(subject: Subject) -> None:
    encoder, images = subject.encoder, subject.images
    cpu = encoder.device
    with memory_budget(2**26, cpu):
        small = expected_peak(encoder, images, Passes(1, 1))
    with memory_budget(2**40, cpu):
        large, forward = expected_peak(encoder, images, Passes(1, 1)), expected_peak(encoder, images, Passes(1))
    cost = cost_of(frozen(encoder), (32, 32), learning=True)
    assert large - small == pytest.approx(max(0, cost.fixed + 600 * cost.each - 2**26), abs=2**24)
    assert forward < large


def test_a_larger_step_is_read_off_two_smaller_ones() -> None:
    def step(images: int) -> tuple[int, float]:
        return images, 0.3 + 0.01 * images

    assert per_image_of(100, step(2), step(40)) == pytest.approx(step(100)[1] / 100)
    assert per_image_of(40, step(2), step(40)) == pytest.approx(step(40)[1] / 40)
    # A disturbed measurement does not make images free.
    assert per_image_of(100, (2, 0.5), (8, 0.4)) == pytest.approx((0.4 + 92 * 0.025) / 100)
