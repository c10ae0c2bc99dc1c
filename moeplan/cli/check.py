"""`moeplan check`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from moeplan.check.result import Check, Level
from moeplan.cli.completion import engine_names, gpu_names, level_names, rule_codes
from moeplan.cli.options import PAGE, Color, Profiles, Quiet, Showing, show, showing
from moeplan.core.errors import EXIT_DONE, EXIT_INPUT, InputError

FORMATS = {
    "text": "table", "table": "table", "json": "json", "markdown": "markdown", "md": "markdown", "github": "github",
    "sarif": "sarif", "junit": "junit", PAGE: PAGE,
}  # fmt: skip
SHOWN = ("text", "json", "markdown", "github", "sarif", "junit", PAGE)
"""Formats as the help names them."""


def _format_names(incomplete: str) -> list[str]:
    """Formats whose name begins so, for a shell that completes."""
    return [name for name in SHOWN if name.startswith(incomplete.lower())]


def check(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Files and folders; - reads a rendered stream. Else this folder."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", "-p", help="moeplan.yaml or pyproject.toml; else the nearest above.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", "-g", help="GPU of deployments that name none.", autocompletion=gpu_names),
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Engine where a file tells none.", autocompletion=engine_names)
    ] = None,
    engine_version: Annotated[
        str | None, typer.Option("--engine-version", help="Its version where the image tells none.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for a variable that a file leaves open; repeat it.")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", help="Only these rules: codes or prefixes, with commas.", autocompletion=rule_codes),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="Without these rules.", autocompletion=rule_codes)
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on",
            help="Level that fails: error, warning or info.",
            show_default=True,
            autocompletion=level_names,
        ),
    ] = "error",
    diff: Annotated[
        str | None, typer.Option("--diff", help="Git revision or folder: what changed since, as Markdown.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option("--baseline", help="Findings that are known already.")] = None,
    write_baseline: Annotated[
        Path | None, typer.Option("--write-baseline", help="Write what is found now to this file.")
    ] = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Models from moeplan.lock alone; opens no connection.")
    ] = False,
    lock: Annotated[Path | None, typer.Option("--lock", help="Another lock file than moeplan.lock.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    pass_over: Annotated[
        bool, typer.Option("--pass-over", help="Pass over files of other programs also where they are named.")
    ] = False,
    format: Annotated[  # noqa: A002 - the option's name
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="text, json, markdown, github, sarif, junit, html; may be repeated, each with an -o.",
            autocompletion=_format_names,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="File for the format at the same place; else the screen."),
    ] = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """Judge the deployment files of a repository: will it start, fit, and keep the policy.

    Exit codes: 0 all passed, 1 findings, 2 wrong usage, 3 not all of it could be verified.

    \b
    $ moeplan check deploy/
    $ moeplan check deploy.yaml --gpu h100-sxm --format github
    $ kustomize build overlays/prod | moeplan check -
    $ moeplan check deploy/ --format html -o check.html
    $ moeplan check --diff origin/main -o comment.md
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    formats = [*(format or []), *(["json"] if json else [])]
    shown = _showings(formats, output or [], quiet=quiet, color=color, diff=diff is not None)
    if diff is not None and write_baseline is not None:
        raise InputError("--write-baseline does not go with --diff", hint="write it in a run of its own")
    from moeplan.report.progress import watching
    from moeplan.sources.policy import policy_variables

    named = paths or ["."]
    codes = [_codes(each or []) for each in (select, ignore)]
    asked = {
        "policy": policy, "gpu": gpu, "engine": engine, "engine_version": engine_version,
        "variables": policy_variables(set_ or []), "select": codes[0], "ignore": codes[1],
        "fail_on": cast("Level", fail_on), "baseline": baseline, "lock": lock, "locked": locked, "offline": offline,
        "profiles": profiles or (), "pass_over": pass_over,
    }  # fmt: skip
    if diff is not None:
        return _diff(diff, named, asked, shown)
    from moeplan.check import check as verb
    from moeplan.check.summary import exit_code

    with watching("judging files", quiet=quiet) as progress:
        result = verb(named, **asked, progress=progress)  # type: ignore[arg-type]
    for how in shown:
        show(result, "check", how)
    _step_summary(result)
    code = exit_code(result)
    if write_baseline is None:
        return code
    _write_baseline(write_baseline, result, quiet=quiet)
    # What was found is known from now on; wrong usage is not known away.
    return code if code == EXIT_INPUT else EXIT_DONE


def _showings(formats: list[str], outputs: list[Path], *, quiet: bool, color: str, diff: bool) -> list[Showing]:
    """One for each format. On a machine of GitHub's Actions text comes with annotations unless a format is asked for."""
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"unknown format {name!r}", hint=f"formats: {', '.join(SHOWN)}")
    if diff and any(name not in ("json", "markdown", "md") for name in formats):
        raise InputError("--diff is told as markdown or json", hint="leave --format out for Markdown")
    if len(outputs) > max(1, len(formats)):
        told = "one format" if len(formats) < 2 else f"{len(formats)} formats"
        raise InputError(f"{len(outputs)} outputs for {told}", hint="name one --format for each --output")
    names = formats or (["markdown"] if diff else ["text"])
    if not formats and not diff and not outputs and os.environ.get("GITHUB_ACTIONS") == "true":
        names = ["text", "github"]
    places: list[Path | None] = [*outputs, *[None] * (len(names) - len(outputs))]
    found = []
    for name, place in zip(names, places, strict=True):
        page = PAGE if name == PAGE else "table"
        how = showing(page, json=False, output=place, quiet=quiet, color=color, also=(PAGE,))
        found.append(Showing(FORMATS[name], how.page, how.output, quiet))
    return found


def _codes(words: list[str]) -> list[str]:
    return [code.strip() for word in words for code in word.split(",") if code.strip()]


def _write_baseline(path: Path, result: Check, *, quiet: bool) -> None:
    from moeplan.check.baseline import baseline_text
    from moeplan.cli.options import write

    text = baseline_text(result)
    try:
        write(path, text)
    except InputError as error:
        raise InputError(error.message, hint="give --write-baseline a file in a folder that you can write") from None
    if not quiet:
        number = text.count('"fingerprint"')
        sys.stderr.write(f"note: {path} is written: {number:,} known finding{'' if number == 1 else 's'}\n")


MOST_SUMMARY_BYTES = 1 << 20


def _step_summary(result: Check) -> None:
    """A table for the page of a run of GitHub's Actions, where there is one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    from moeplan.report.check_markdown import check_markdown

    text = check_markdown(result)
    if len(text.encode()) > MOST_SUMMARY_BYTES:
        text = "moeplan check: too many findings for a summary; see the log.\n"
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        sys.stderr.write(f"note: the step summary cannot be written ({error.strerror})\n")


def _diff(base: str, paths: list[str], asked: Mapping[str, object], shown: list[Showing]) -> int:
    from moeplan.check.diff import diff as verb
    from moeplan.check.summary import exit_code

    result = verb(base, paths, **asked)
    for how in shown:
        show(result, "check_diff", how)
    return exit_code(result.head)
