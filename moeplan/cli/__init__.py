"""The command line: parse, call one verb, hand the result to a report, choose the exit code.

Each command is one module, imported only when it is asked for: `moeplan gpus` does not pay for `estimate`.
"""

import gc
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from moeplan.core.errors import EXIT_DONE, EXIT_INPUT, EXIT_INTERNAL, EXIT_INTERRUPTED, MoeplanError
from moeplan.report.printable import printable
from moeplan.version import __version__

COMMANDS: dict[str, str] = {
    "estimate": "What one model needs, line by line, and whether it fits a GPU.",
    "plan": "Which hardware and layout for a workload, ranked, and what to fall back on.",
    "compare": "The same workload on several models: MoE beside dense, quantised beside not.",
    "validate": "The estimate beside what an engine said at start, line by line.",
    "profile": "Measure this machine, for later estimates.",
    "check": "Judge deployment files: the gate in CI.",
    "routing": "How experts are really used: capture, report, drift, placement.",
    "record": "What was run, in a file; what changed between two.",
    "lock": "Keep the models of deployment files, for checks without a network.",
    "gpus": "The accelerators that moeplan knows, or one of them with its sources.",
    "models": "The models that moeplan knows without the network.",
}
"""Name of each command, of its module and of its function or group of commands, with its help line."""

TAKE_ENGINE_WORDS = ("estimate", "validate", "record")
"""Commands that read an engine's command line behind `--`."""

KEEP = {
    ("profile",): "what was measured is kept; run it again with --resume to go on",
    ("routing", "capture"): "prompts that were captured are kept; run it again to go on",
}
"""Commands that keep what they have done when they are interrupted; all others write in one piece, at the end."""

DEBUG = "MOEPLAN_DEBUG"

# typer carries its own click; the error types are reached through the one that it exports.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickException: Any = _UsageError.__mro__[1]


def application(asked: str | None) -> typer.Typer:
    """The typer application; only the command that is asked for brings its options, unless none is."""
    app = typer.Typer(
        name="moeplan",
        help="Capacity and memory planner for Mixture-of-Experts language models.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Learn more: each command has --help. Exit codes: 0 done, 1 findings, 2 wrong input, 3 could not find out.",
    )
    app.callback()(_global_options)
    complete = asked in COMMANDS
    for name, summary in COMMANDS.items():
        if complete and name != asked:
            continue
        if asked in COMMANDS or "_MOEPLAN_COMPLETE" in os.environ:
            command = getattr(import_module(f"moeplan.cli.{name}"), name)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name)
            else:
                app.command(name)(command)
        else:
            # Help, version and mistyped names need no options, so no command's module is loaded for them.
            app.command(name, help=summary)(_stub)
    return app


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code that the outcome has (see README, Exit codes)."""
    words = sys.argv[1:] if arguments is None else arguments
    # Commands make many records and few cycles, and end soon: looking for cycles as often as Python does costs a tenth.
    gc.set_threshold(50_000, 20, 20)
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by the caller (`>&-`)
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    asked = next((word for word in words if not word.startswith("-")), None)
    words, engine_words = _split(words, asked)
    try:
        outcome = application(asked)(words, prog_name="moeplan", standalone_mode=False, obj=engine_words)
        sys.stdout.flush()
    except MoeplanError as error:
        return _report(error.message, error.hint, error.exit_code)
    except _ClickException as error:
        if (
            type(error).__name__ == "NoArgsIsHelpError"
        ):  # help that nobody asked for is no data: it goes where errors go
            sys.stderr.write(f"{error.format_message()}\n")
            return EXIT_INPUT
        return _report(*_usage(error, asked, words), EXIT_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(words)
    except BrokenPipeError:
        return _unheard()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # typer's own way to leave a closed pipe
            return _unheard()
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user who did not ask for one
        if os.environ.get(DEBUG):
            import traceback

            traceback.print_exc()
        import shlex

        what = f"internal error: {type(error).__name__}: {error}"
        return _report(
            what, f"please report it with the output of {DEBUG}=1 moeplan {shlex.join(words)}", EXIT_INTERNAL
        )
    if outcome == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this number
        return _interrupted(words)
    return outcome if isinstance(outcome, int) else EXIT_DONE


def _split(words: list[str], asked: str | None) -> tuple[list[str], list[str]]:
    """Our own words, and those of an engine behind the first `--` of a command that takes them."""
    if asked not in TAKE_ENGINE_WORDS or "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]


def _report(message: str, hint: str, code: int) -> int:
    # Where nobody hears it (`2>&1 | head`), the exit code tells.
    with suppress(BrokenPipeError):
        sys.stderr.write(f"error: {printable(message)}\n hint: {printable(hint)}\n")
        sys.stderr.flush()
    return code


def _interrupted(words: list[str]) -> int:
    # Where Ctrl-C fell into code that exec() ran, as dataclasses and named tuples do while they are made, CPython remembers
    # it although it was caught, and `python -m` ends by SIGINT and not with our code. Another exec() makes it forget.
    exec("")  # noqa: S102
    command = [word for word in words if not word.startswith("-")][:2]
    kept = next(
        (told for names, told in KEEP.items() if command[: len(names)] == [*names]), "nothing was written; run it again"
    )
    return _report("interrupted", kept, EXIT_INTERRUPTED)


def _unheard() -> int:
    """The reader went away (`| head`): nothing more to say, and nothing to flush at exit."""
    from moeplan.cli.options import leave_stdout

    leave_stdout()
    return EXIT_DONE


def _usage(error: Any, asked: str | None, words: list[str]) -> tuple[str, str]:
    """A usage error in one line, and the way out: near names where there are any, else the command's help."""
    command = f"moeplan {asked}" if asked in COMMANDS else "moeplan"
    known = None
    if asked in COMMANDS and error.ctx is not None and error.ctx.parent is not None:
        command = error.ctx.command_path  # a command of a group has a longer name
        known = getattr(error.ctx.command, "commands", None)
    hint = f"`{command} --help` shows what it takes"
    option = getattr(error, "option_name", None)
    if option and hasattr(error, "possibilities"):
        behind = next((word for word in words if word in COMMANDS), None)
        if asked not in COMMANDS and behind is not None:
            return (
                f"no such option {option} before the command",
                f"options stand behind it: moeplan {behind} ... {option}",
            )
        near = _did_you_mean(option, error.possibilities or ())
        return f"no such option {option}", f"{near}{hint}{_behind_dashes(asked, option)}"
    if type(error).__name__ == "MissingParameter" and error.param is not None:
        is_option = error.param.param_type_name == "option"
        name, told = error.param.opts[0] if is_option else error.param.name.upper(), error.param.help
        return f"{command} needs {name}", f"{name}: {told[:1].lower()}{told[1:]}" if told else hint
    if known is not None:  # of a group, which takes nothing but the names of its commands
        typed = next((word for word in words[words.index(str(asked)) + 1 :] if not word.startswith("-")), "")
        return f"no such command '{asked} {typed}'", f"{_did_you_mean(typed, known)}commands: {', '.join(known)}"
    if asked is not None and asked not in COMMANDS:
        return f"no such command {asked!r}", f"{_did_you_mean(asked, COMMANDS)}commands: {', '.join(COMMANDS)}"
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    behind_dashes = _behind_dashes(asked, "vllm serve ...") if "extra argument" in message else ""
    return message[:1].lower() + message[1:], f"{hint}{behind_dashes}"


def _behind_dashes(asked: str | None, typed: str) -> str:
    """Where an engine's own words belong, for the commands that take them."""
    return f"; an engine's own flags stand behind `--`: {asked} ... -- {typed}" if asked in TAKE_ENGINE_WORDS else ""


def _did_you_mean(typed: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(typed, list(known), n=2, cutoff=0.7)
    return f"did you mean {' or '.join(near)}? " if near else ""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"moeplan {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Options of moeplan itself; `--version` has already answered when this runs."""


def _stub() -> None:
    """Stands for a command in help and suggestions; never run."""
