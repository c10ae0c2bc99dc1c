"""`moeplan record`: one run in a file, and two of them side by side. `moeplan record MODEL` is short for `record make MODEL`."""

import inspect
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from moeplan.cli.completion import model_names
from moeplan.cli.estimate import MODEL_HELP, estimate, stage_layers
from moeplan.cli.load_options import tokens_and_file
from moeplan.cli.options import STDOUT, Color, Format, Json, Output, Quiet, show, showing, write
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_UNKNOWN, InputError
from moeplan.core.units import parse_share

NO_ESTIMATE_OPTION = ("require_fit", "explain", "format", "json", "quiet", "color")
"""What `estimate` has for its own answer; all else that it takes is asked of the estimate of a record."""


class _Group(TyperGroup):
    """What is no name of a command is the model of `make`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `make` before words that begin with none of the commands."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


record = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One run or plan in a file, with how each figure is known; and what changed between two of them. "
    "`moeplan record MODEL ...` is short for `moeplan record make MODEL ...`.",
    epilog="Learn more: docs/records.md. Each command has --help.",
)

FILE_HELP = "A record, as `moeplan record MODEL ... -o FILE` writes it."


def make(
    context_of_call: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", autocompletion=model_names, help=MODEL_HELP)] = None,
    measured: Annotated[
        list[str] | None,
        typer.Option(
            "--measured",
            metavar="FILE",
            help="Result of vllm bench serve, SGLang's bench_serving, AIPerf or llama-bench; repeats of one load too.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A measured figure by hand: ttft_p95=180ms; may be repeated."),
    ] = None,
    quality: Annotated[
        list[str] | None,
        typer.Option(
            "--quality", metavar="NAME=VALUE", help="A score: mmlu=0.712, mmlu=0.712+-0.004, ppl=6.1:lower; repeated."
        ),
    ] = None,
    quality_how: Annotated[
        str | None,
        typer.Option("--quality-how", metavar="TEXT", help="Harness, version, shots: lm-eval 0.4.9, 5-shot."),
    ] = None,
    quality_by: Annotated[
        str | None, typer.Option("--quality-by", metavar="NAME", help="Who measured the scores.")
    ] = None,
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="FILE", help="What the engine printed at start: its version and memory."),
    ] = None,
    driver: Annotated[str | None, typer.Option("--driver", help="Version of the GPU driver: 580.65.")] = None,
    torch: Annotated[str | None, typer.Option("--torch", help="Version of torch: 2.9.1.")] = None,
    activations: Annotated[
        str | None,
        typer.Option("--activations", metavar="FORMAT", help="Format of activations, where weights do not say."),
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DAY", help="2026-11-22; else of SOURCE_DATE_EPOCH, else today.")
    ] = None,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    quiet: Quiet = False,
    color: Color = "auto",
    **asked: Any,
) -> None:
    """What is planned or was run, in one file: model, engine, GPU, load, every assumption, estimates, what was measured.

    It takes all that `moeplan estimate` takes. -o FILE writes the record (JSON), the screen shows it.
    Everything behind -- is read as the engine's own command line.

    \b
    $ moeplan record qwen3-30b-a3b --gpu h100 --concurrency 16 --input 2k --output 500 -o before.json
    $ moeplan record qwen3-30b-a3b --gpu h100 --concurrency 16 --input 2k --output 500 --kv-dtype fp8 -o after.json
    $ moeplan record diff before.json after.json
    $ moeplan record qwen3-30b-a3b --gpu h100 --concurrency 16 --measured result.json --quality mmlu=0.712 -o run.json
    """  # noqa: D301 - typer reads the character, not the escape
    words = context_of_call.obj or ()
    if model is None and not words:
        raise InputError("moeplan record needs MODEL", hint=f"MODEL: {MODEL_HELP[:1].lower()}{MODEL_HELP[1:]}")
    asked["output"], file = tokens_and_file(asked["output"], asked.pop("output_file"))
    _not_over(file, *(measured or ()), log, asked.get("workload"), asked.get("routing"))
    to_screen = file is None or str(file) in STDOUT
    how = showing(
        "json" if file is not None and to_screen else format, json=json, output=None, quiet=quiet, color=color
    )
    asked["pp_layers"] = stage_layers(asked["pp_layers"])
    asked["speed"] = asked["speed"] or asked["concurrency"] is not None
    asked["profiles"] = asked["profiles"] or ()
    from moeplan.records import record as verb
    from moeplan.report.progress import watching

    with watching(quiet=quiet) as progress:
        result = verb(
            model,
            measured=measured or (),
            figures=set_ or (),
            quality=quality or (),
            quality_how=quality_how,
            quality_by=quality_by,
            log=log,
            driver=driver,
            torch=torch,
            activations=activations,
            date=date,
            progress=progress,
            engine_args=words,
            **asked,
        )
    if file is not None and not to_screen:
        from moeplan.report.as_json import as_json

        write(file, as_json(result))
    show(result, "record", how)


def _with_options_of_estimate() -> None:
    """Give `make` every option that `estimate` has, so that a new one is one of records too."""
    own = [
        each for each in inspect.signature(make).parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    names = {each.name for each in own}
    theirs = [
        each
        for each in inspect.signature(estimate).parameters.values()
        if each.name not in names and each.name not in NO_ESTIMATE_OPTION
    ]
    first, rest = own[:2], own[2:]
    make.__signature__ = inspect.Signature([*first, *theirs, *rest])  # type: ignore[attr-defined]


_with_options_of_estimate()
record.command("make", short_help="A record of MODEL; `moeplan record MODEL` is the same.")(make)


@record.command("diff", short_help="Which settings changed from A to B, and what became better or worse.")
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=FILE_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help="The one that is held against it.")],
    tolerance: Annotated[
        str, typer.Option("--tolerance", help="Change that counts as none.", show_default=True)
    ] = "2%",
    quality_tolerance: Annotated[
        str, typer.Option("--quality-tolerance", help="The same for scores of quality.", show_default=True)
    ] = "0",
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """Which settings changed from A to B, and by how much quality, latency, memory and cost did.

    Exit 1 where a p95, a p99, the share of failed requests or a score got worse, whatever the mean does, or where it does not
    fit any more; 3 where the two cannot be judged: other models, other loads, or a figure of A that B lacks.

    \b
    $ moeplan record diff before.json after.json
    $ moeplan record diff before.json after.json --tolerance 5% --format markdown -o comment.md
    """  # noqa: D301 - typer reads the character, not the escape
    how = showing(format, json=json, output=output, quiet=quiet, color=color)
    shares = [
        0.0 if _is_nothing(text) else parse_share(text, option, "2%")
        for text, option in ((tolerance, "--tolerance"), (quality_tolerance, "--quality-tolerance"))
    ]
    _not_over(output, a, b)
    from moeplan.records import record_diff as verb

    result = verb(a, b, tolerance=shares[0], quality_tolerance=shares[1])
    show(result, "record_diff", how)
    if result.passed is None:
        return EXIT_UNKNOWN
    return EXIT_DONE if result.passed else EXIT_FINDINGS


def _not_over(output: Path | None, *read: str | None) -> None:
    """Raise InputError where a file that is read would be written over."""
    for each in read:
        if output is not None and each is not None and os.path.realpath(output) == os.path.realpath(each):
            raise InputError(f"-o {output} would write over a file that is read", hint="name another file to write to")


def _is_nothing(text: str) -> bool:
    """True for `0`, `0%`, `0.0 %`."""
    digits = text.strip().removesuffix("%").strip()
    return digits.strip("0.") == "" and digits.strip(".") != "" and digits.count(".") < 2


@record.command("show", short_help="A record as a table, or as Markdown.")
def show_(
    file: Annotated[str, typer.Argument(metavar="FILE", help=FILE_HELP)],
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """A record as a table, or as Markdown.

    \b
    $ moeplan record show before.json
    """  # noqa: D301 - typer reads the character, not the escape
    how = showing(format, json=json, output=output, quiet=quiet, color=color)
    _not_over(output, file)
    from moeplan.sources.records import read_record

    show(read_record(file), "record", how)
