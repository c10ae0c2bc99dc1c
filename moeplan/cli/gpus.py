"""`moeplan gpus`."""

from typing import Annotated

import typer

from moeplan.cli.options import Color, Format, Json, Output, Profiles, Quiet, chosen_format, deliver, page


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
    chosen = chosen_format(format, json)
    sheet = page(color, output)
    from moeplan.inspect import gpus as verb

    result = verb(name, profiles or ())
    if chosen == "json":
        from moeplan.report.as_json import as_json

        text = as_json(result)
    elif chosen == "markdown":
        from moeplan.report.inspect_table import gpus_markdown

        text = gpus_markdown(result, detailed=name is not None)
    else:
        from moeplan.report.inspect_table import gpus_table

        text = gpus_table(
            result, width=sheet.width, color=sheet.color, unicode=sheet.unicode, detailed=name is not None
        )
    deliver(text, output, quiet=quiet)
