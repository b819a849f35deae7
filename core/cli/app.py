"""The command ``encoder-audit``: its commands, and one place where every error becomes a sentence and an exit code."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from itertools import pairwise
from types import FrameType
from typing import Annotated

import typer
from typer.exceptions import TyperException

from core.cli.answer import print_problem
from core.cli.attack_backdoor_command import backdoor
from core.cli.attack_poison_command import poison
from core.cli.audit_commands import canary, detect, purify
from core.cli.cleanse_command import cleanse
from core.cli.evaluate_command import evaluate
from core.cli.exit_codes import ExitCode
from core.cli.methods_command import methods
from core.cli.pretrain_command import pretrain
from core.cli.zoo_calibrate_command import calibrate
from core.cli.zoo_command import build
from core.cli.zoo_examine_command import examine
from core.errors import AuditError, Cancelled, Problem, UsageError

COMMANDS: Mapping[str, Callable[..., int]] = {
    "detect": detect,
    "purify": purify,
    "canary": canary,
    "cleanse": cleanse,
    "evaluate": evaluate,
    "methods": methods,
    "pretrain": pretrain,
}
GROUPS: Mapping[str, tuple[str, Mapping[str, Callable[..., int]]]] = {
    "attack": ("Make backdoored data and encoders, to test audits on.", {"poison": poison, "backdoor": backdoor}),
    "zoo": ("Collections of encoders with their truth.", {"build": build, "examine": examine, "calibrate": calibrate}),
}
"""Commands with commands of their own: name -> (help, its commands)."""
ENTRY_POINTS = "encoder_audit.commands"
"""Other packages bring commands of their own (``serve``); ``core`` knows only this name."""


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command in ``arguments`` and give its exit code; no exception gets out."""
    as_json = _wants_json(arguments)
    # Without a command the help is shown; that answers no question, so it must not end in 0.
    words = list(arguments) or ["--help"]
    try:
        answer = build_app(words)(args=words, prog_name="encoder-audit", standalone_mode=False)
        if answer == ExitCode.INTERRUPTED:  # what the library below makes of Ctrl-C
            raise KeyboardInterrupt
        return int(answer or 0) if arguments else ExitCode.USAGE
    except AuditError as error:
        print_problem(error.problem, as_json=as_json)
        return ExitCode(error.exit_code)
    except TyperException as error:
        print_problem(_usage(error), as_json=as_json)
        return ExitCode.USAGE
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        print_problem(_interruption(words), as_json=as_json)
        return ExitCode.INTERRUPTED
    except SystemExit:
        # The library below leaves with 1, our "backdoored" and "poisoned", when standard output is closed early.
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence: it is reported, and never as an answer
        if "--debug" in arguments:
            traceback.print_exc()
        print_problem(_unexpected(error), as_json=as_json)
        return ExitCode.FAILED


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The application. Commands of other packages are imported only where ``arguments`` may need them."""
    app = typer.Typer(
        name="encoder-audit",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    for name, command in COMMANDS.items():
        app.command(name)(command)
    for name, (explanation, commands) in GROUPS.items():
        group = typer.Typer(help=explanation, no_args_is_help=True)
        for own_name, command in commands.items():
            group.command(own_name)(command)
        app.add_typer(group, name=name)
    if not arguments or arguments[0] not in {*COMMANDS, *GROUPS}:
        for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda found: found.name):
            _add(app, entry_point)
    return app


def _add(app: typer.Typer, entry_point: EntryPoint) -> None:
    try:
        command = entry_point.load()
    except ImportError as error:
        missing = error.name or str(error)

        def unavailable() -> None:
            raise UsageError(
                "missing_extra",
                field=entry_point.name,
                found=f"no package '{missing}'",
                expected="the packages that this command needs",
                action="Install them: pip install 'encoder-audit[embedded]'.",
            )

        app.command(entry_point.name, help=f"Not available: needs '{missing}'.")(unavailable)
    else:
        app.command(entry_point.name)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"encoder-audit {version('encoder-audit')}")
        raise typer.Exit()


def _common(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Audit self-supervised image encoders for backdoors: recover the trigger, purify the weights."""
    # A service manager's stop is an interruption like Ctrl-C: folders under construction are removed.
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _wants_json(arguments: Sequence[str]) -> bool:
    """Read from the bare words, since the error may be that they could not be parsed."""
    return "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


_RESUMABLE = ("cleanse", "pretrain", "zoo")
"""Commands that keep what they have done so far."""


def _interruption(words: Sequence[str]) -> Problem:
    kept = "What was done is kept; the same command goes on from there."
    return Problem(
        "interrupted",
        field=words[0],
        found="it was interrupted",
        expected="to run to its end",
        action=kept if words[0] in _RESUMABLE else "Nothing was written; start it again.",
    )


def _usage(error: TyperException) -> Problem:
    return Problem(
        "usage",
        field="arguments",
        found=error.format_message().rstrip("."),
        expected="arguments as in the help",
        action="See 'encoder-audit --help' and 'encoder-audit COMMAND --help'.",
    )


def _unexpected(error: Exception) -> Problem:
    text = str(error).strip().splitlines()
    return Problem(
        "unexpected",
        field="audit",
        found=f"an unexpected error, {type(error).__name__}{f': {text[0][:200]}' if text else ''}",
        expected="no such thing: this is a fault of the program",
        action="Add --debug to see where it happened, and report it.",
    )
