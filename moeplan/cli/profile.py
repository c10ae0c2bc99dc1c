"""`moeplan profile`."""

import sys
from typing import Annotated, cast

import typer

from moeplan.cli.completion import model_names
from moeplan.cli.options import PAGE, Color, Json, Output, PageFormat, Profiles, Quiet, show, showing
from moeplan.core.errors import EXIT_DONE, EXIT_INTERRUPTED, InputError
from moeplan.core.measurement import SECTIONS, Effort, Section


def profile(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Measure this model's experts.", autocompletion=model_names),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="About 20 seconds.")] = False,
    full: Annotated[bool, typer.Option("--full", help="As long as it takes; else under three minutes.")] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="cuda, cuda:1, rocm, mps or cpu; else the best there is.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="bfloat16, float8_e4m3fn, ...; may be repeated.")
    ] = None,
    section: Annotated[
        list[str] | None, typer.Option("--section", help=f"Only this part, may be repeated: {', '.join(SECTIONS[1:])}.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of data and routings.", min=0)] = 0,
    name: Annotated[
        str | None, typer.Option("--name", help="Hardware profile to keep it in; else the device's own.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run ended: measure what it has not.")
    ] = False,
    against: Annotated[
        str | None, typer.Option("--against", help="Older profile of this device: what changed beyond the noise.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    format: PageFormat = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """Measure this machine: memory, links, routers, experts, attention. Later estimates use its memory.

    The result is kept in a hardware profile of yours, every case in a file beside it. Ctrl-C keeps what is done.

    \b
    $ moeplan profile --quick
    $ moeplan profile --model qwen3-30b-a3b --name my-h200
    $ torchrun --nproc-per-node 8 -m moeplan profile --section links
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    how = showing(format, json=json, output=output, quiet=quiet, color=color, also=(PAGE,))
    if quick and full:
        raise InputError("--quick and --full contradict each other", hint="say one of them, or none")
    effort: Effort = "quick" if quick else "full" if full else "default"
    from moeplan.profile import profile as verb
    from moeplan.report.progress import working

    with working("measuring", quiet=quiet) as progress:
        result = verb(
            model,
            effort=effort,
            device=device,
            dtypes=tuple(dtype or ()),
            sections=cast("tuple[Section, ...]", tuple(section or ())),
            seed=seed,
            name=name,
            resume=resume,
            against=against,
            profiles=profiles or (),
            offline=offline,
            progress=progress,
        )
    if result.first:
        show(result, "profile", how)
    if result.first and output is not None and not quiet:
        from moeplan.report.printable import printable
        from moeplan.report.profile_words import kept_words

        for sentence in kept_words(result):
            sys.stderr.write(f"{printable(sentence)}\n")
    return EXIT_DONE if result.complete else EXIT_INTERRUPTED
