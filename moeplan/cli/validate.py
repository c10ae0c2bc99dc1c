"""`moeplan validate`."""

import sys
from typing import Annotated

import typer

from moeplan.cli.completion import engine_names, gpu_names, model_names
from moeplan.cli.options import Color, Format, Json, Output, Profiles, Quiet, show, showing
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_UNKNOWN, InputError
from moeplan.core.units import parse_count, parse_share


def validate(
    context_of_call: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", autocompletion=model_names, help="The model, where the log does not tell."),
    ] = None,
    log: Annotated[
        str | None, typer.Option("--log", "-l", help="What vLLM, SGLang or llama.cpp printed at start; - for stdin.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", "-g", help="The card, where the log does not tell: h100.", autocompletion=gpu_names),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", "-e", help="Whose log it is: vllm, sglang, llamacpp.", autocompletion=engine_names),
    ] = None,
    engine_version: Annotated[
        str | None, typer.Option("--engine-version", help="Version, where the log does not tell.")
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option("--tolerance", help="Largest error that passes: 5% of a log; of a run 0.1%, of its peak 3%."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Without --log: run MODEL on cuda, cuda:1, rocm, mps or cpu.")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", "-c", help="Without --log: tokens of each sequence. [default: 1024]")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Without --log: sequences.")] = 1,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Without --log: layers to run, where not all that fit.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Without --log: of the random weights.")] = 0,
    learn: Annotated[
        str | None,
        typer.Option(
            "--learn", help="Keep what the engine held beyond the estimate in a hardware profile of yours: my-h100."
        ),
    ] = None,
    quant: Annotated[str | None, typer.Option("--quant", help="Format of the weights, as estimate takes it.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the Hub.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read the checkpoint on the Hub also for a catalogue model.")
    ] = False,
    file: Annotated[
        str | None, typer.Option("--file", help="One of several models in a repository or folder: a .gguf file, say.")
    ] = None,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """The estimate beside what an engine said at start, or beside a run of MODEL here, line by line.

    Everything behind -- is read as the engine's own command line, where the log does not show it.
    Exit 1 where an error is beyond the tolerance or the start went otherwise than estimated, 3 where nothing could be
    judged.

    \b
    $ moeplan validate --log vllm.log
    $ moeplan validate olmoe-1b-7b --device cuda --context 4k --concurrency 8
    $ moeplan validate qwen3-30b-a3b --gpu h100 --log - < server.log
    $ moeplan validate --log vllm.log --gpu h100 --tolerance 2% --learn my-h100
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    how = showing(format, json=json, output=output, quiet=quiet, color=color)
    if log is None and model is None:
        raise InputError(
            "moeplan validate needs --log FILE or MODEL",
            hint="the log of an engine's start, or a model to run on this machine",
        )
    only = {"--device": device, "--context": context, "--layers": layers}
    told = [option for option, value in only.items() if value is not None]
    if log is not None and told:
        raise InputError(
            f"{told[0]} is of a model that is run here, and --log of one that was", hint="leave one of them out"
        )
    if log is None and learn is not None:
        raise InputError("--learn needs --log", hint="`moeplan profile` measures this machine")
    from moeplan.validate import validate as verb

    result = verb(
        model,
        log=sys.stdin if log == "-" else log,
        gpu=gpu,
        engine=engine,
        engine_version=engine_version,
        engine_args=context_of_call.obj or (),
        tolerance=None if tolerance is None else parse_share(tolerance, "--tolerance"),
        learn=learn,
        quant=quant,
        revision=revision,
        offline=offline,
        headers=headers,
        file=file,
        device=device,
        context=None if context is None else parse_count(context, "--context").value,
        concurrency=concurrency,
        layers=layers,
        seed=seed,
        profiles=profiles or (),
    )
    show(result, "validate", how)
    if result.passed is None:
        return EXIT_UNKNOWN
    return EXIT_DONE if result.passed else EXIT_FINDINGS
