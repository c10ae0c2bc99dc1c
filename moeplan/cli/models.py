"""`moeplan models`."""

from typing import Annotated

import typer

from moeplan.cli.options import Color, Format, Json, Output, Profiles, Quiet, show, showing


def models(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]", help="Short for --search WORDS.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", "-s", help="Only models with these words in their names or family.")
    ] = None,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """The models that moeplan knows without the network.

    \b
    $ moeplan models
    $ moeplan models mixtral
    $ moeplan models --search "qwen3 moe"
    $ moeplan models --search dense --json
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    how = showing(format, json=json, output=output, quiet=quiet, color=color)
    from moeplan.inspect import models as verb

    asked = " ".join([*(words or ()), *([search] if search else ())])
    show(verb(asked or None, profiles or ()), "models", how)
