"""`moeplan lock`."""

from pathlib import Path
from typing import Annotated

import typer

from moeplan.cli.options import Color, Format, Json, Output, Profiles, Quiet, show, showing
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_UNKNOWN


def lock(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Files and folders; - reads a rendered stream. Else this folder."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", "-p", help="moeplan.yaml or pyproject.toml; else the nearest above.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for a variable that a file leaves open; repeat it.")
    ] = None,
    lock_file: Annotated[
        Path | None, typer.Option("--lock", help="The lock file; else moeplan.lock beside the policy.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where the lock file is stale.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """Keep the models of these deployments in moeplan.lock, so that checks need no network.

    Of each model: its config; of one on the Hub also the commit and the sum of its headers. Keep the file in git.

    Exit codes: 0 done, 1 stale (with --check), 3 a model could not be read, 2 wrong usage.

    \b
    $ moeplan lock deploy/
    $ moeplan check deploy/ --locked
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    how = showing(format, json=json, output=output, quiet=quiet, color=color)
    from moeplan.lock import lock as verb
    from moeplan.report.progress import watching
    from moeplan.sources.policy import policy_variables

    with watching("reading models", quiet=quiet) as progress:
        result = verb(
            paths or ["."],
            policy=policy,
            variables=policy_variables(set_ or []),
            lock=lock_file,
            offline=offline,
            check_only=check,
            profiles=profiles or (),
            progress=progress,
        )
    show(result, "lock", how)
    if result.stale:
        return EXIT_FINDINGS
    return EXIT_UNKNOWN if result.unlocked else EXIT_DONE
