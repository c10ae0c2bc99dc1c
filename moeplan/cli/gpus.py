"""`moeplan gpus`."""

from typing import Annotated

import typer

from moeplan.cli.options import Color, Format, Json, Output, Profiles, Quiet, show, showing


def gpus(
    name: Annotated[
        str | None, typer.Argument(help="One accelerator, as --gpu reads it: every figure with its source.")
    ] = None,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """The accelerators that moeplan knows, or one of them with its sources.

    \b
    $ moeplan gpus
    $ moeplan gpus h100
    $ moeplan gpus --json
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    how = showing(format, json=json, output=output, quiet=quiet, color=color)
    from moeplan.inspect import gpus as verb

    show(verb(name, profiles or ()), "gpus", how, detailed=name is not None)
