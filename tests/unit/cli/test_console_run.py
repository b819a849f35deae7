"""The progress bar: on a terminal only, and never in the way of an algorithm."""

from __future__ import annotations

import io

from rich.console import Console

from core.cli.console_run import ConsoleRun


def test_nothing_is_written_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with ConsoleRun(Console(file=stream)) as run:
        run.plan({"search": 1.0})
        assert list(run.steps("search", 5)) == [0, 1, 2, 3, 4]
        run.log(loss=0.5)
    assert stream.getvalue() == ""


def test_what_comes_before_the_plan_shows_how_far_it_is() -> None:
    stream = io.StringIO()
    with ConsoleRun(Console(file=stream, force_terminal=True, width=100)) as run:
        list(run.steps("reading the images", 4))
        run._bar.refresh()
        assert run._bar.tasks[0].completed == 0  # the plan is still to come
        run.plan({"search": 1.0})
        list(run.steps("search", 2))
    assert "Reading the images" in stream.getvalue()
    assert "100 % of this" in stream.getvalue()


def test_terminal_shows_the_stage() -> None:
    stream = io.StringIO()
    with ConsoleRun(Console(file=stream, force_terminal=True, width=100)) as run:
        run.plan({"search": 1.0, "unlearn": 1.0})
        for _ in run.steps("search", 3):
            run.log(loss=0.5)
        list(run.steps("unlearn", 3))
    assert "Unlearn" in stream.getvalue()
    assert "100%" in stream.getvalue()
