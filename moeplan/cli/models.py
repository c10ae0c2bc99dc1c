"""`moeplan models`."""

from typing import Annotated

import typer

from moeplan.cli.options import Color, Format, Json, Output, Profiles, Quiet, chosen_format, deliver, page


def models(
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
    $ moeplan models --search "qwen3 moe"
    $ moeplan models --search dense --json
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    chosen = chosen_format(format, json)
    sheet = page(color, output)
    from moeplan.inspect import models as verb

    result = verb(search, profiles or ())
    if chosen == "json":
        from moeplan.report.as_json import as_json

        text = as_json(result)
    elif chosen == "markdown":
        from moeplan.report.inspect_table import models_markdown

        text = models_markdown(result)
    else:
        from moeplan.report.inspect_table import models_table

        text = models_table(result, width=sheet.width, color=sheet.color, unicode=sheet.unicode)
    deliver(text, output, quiet=quiet)
