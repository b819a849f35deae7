"""One fraction for the whole of a run, whatever becomes of its plan."""

from core.run import Progress


def test_a_stage_that_was_not_needed_does_not_hold_the_bar() -> None:
    progress = Progress()
    progress.plan({"search": 1.0, "follow": 1.0, "unlearn": 2.0})
    assert progress.at("search", 1, 2) == 0.125
    assert progress.at("unlearn", 1, 2) == 0.75
    assert progress.at("unlearn", 2, 2) == 1.0


def test_a_plan_that_grew_holds_the_bar_and_never_turns_it_back() -> None:
    progress = Progress()
    progress.plan({"search": 1.0})
    assert progress.at("search", 1, 2) == 0.5
    progress.plan({"search": 1.0, "follow": 1.0})
    assert progress.at("search", 2, 2) == 0.5
    assert progress.at("follow", 1, 2) == 0.75
    progress.plan({"search": 1.0, "follow": 1.0, "follow 2": 6.0})
    assert progress.at("follow", 2, 2) == 0.75
    assert progress.at("follow 2", 6, 6) == 1.0


def test_a_stage_outside_the_plan_leaves_the_bar_where_it_is() -> None:
    progress = Progress()
    assert progress.at("surprise", 1, 1) == 0.0
    progress.plan({"search": 1.0})
    progress.at("search", 1, 4)
    assert progress.at("surprise", 1, 1) == 0.25
