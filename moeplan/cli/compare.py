"""`moeplan compare`."""

from typing import Annotated

import typer

from moeplan.cli.completion import engine_names, gpu_names, model_names
from moeplan.cli.load_options import (
    Arrival,
    Concurrency,
    Context,
    Input,
    OutputFile,
    OutputTokens,
    Tpot,
    Ttft,
    WorkloadFile,
    tokens_and_file,
)
from moeplan.cli.options import PAGE, Color, Json, PageFormat, Profiles, Quiet, show, showing
from moeplan.core.errors import InputError


def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL MODEL...",
            autocompletion=model_names,
            help="Two or more, as estimate takes them; MODEL:FORMAT is one in another weight format: qwen3-8b:fp8.",
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            "-g",
            help="Accelerator, and how many there are at most: h100, 8xh100. Without it memory and bytes alone.",
            autocompletion=gpu_names,
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            "-e",
            help="vllm (the default), sglang, trtllm, llamacpp or transformers.",
            autocompletion=engine_names,
        ),
    ] = None,
    engine_version: Annotated[
        str | None, typer.Option("--engine-version", help="Version of the engine: 0.11.2; rules differ between them.")
    ] = None,
    context: Context = None,
    concurrency: Concurrency = None,
    input: Input = None,  # noqa: A002 - the option's name
    output: OutputTokens = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    arrival: Arrival = None,
    workload: WorkloadFile = None,
    encoder_tokens: Annotated[
        str | None, typer.Option("--encoder-tokens", help="Encoder length of encoder-decoder models.")
    ] = None,
    quant: Annotated[
        str | None, typer.Option("--quant", help="Weight format of the models that name none: fp8, int4, nvfp4, ...")
    ] = None,
    kv_dtype: Annotated[str | None, typer.Option("--kv-dtype", help="Cache dtype: auto, fp8, bfloat16.")] = None,
    utilization: Annotated[
        float | None, typer.Option("--utilization", help="Share of the memory that the engine may use, 0 to 1.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read the checkpoints on the Hub also for catalogue models.")
    ] = False,
    rank: Annotated[bool, typer.Option("--rank", "--sort", hidden=True)] = False,
    format: PageFormat = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output_file: OutputFile = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """The same workload on several models: MoE beside dense, quantised beside not.

    \b
    $ moeplan compare mixtral-8x7b llama-3.1-70b-instruct --gpu h100 --concurrency 64 --context 8k
    $ moeplan compare qwen3-30b-a3b qwen3-32b qwen3-8b --concurrency 32
    $ moeplan compare qwen3-30b-a3b qwen3-30b-a3b:fp8 --gpu l40s --json
    """  # noqa: D301 - typer reads the character, not the escape
    if rank:
        raise InputError(
            "compare ranks by no single figure",
            hint="each figure has its own least; --json has all of them, and `moeplan plan` ranks ways to serve one model",
        )
    output_tokens, file = tokens_and_file(output, output_file)
    how = showing(format, json=json, output=file, quiet=quiet, color=color, also=(PAGE,))
    from moeplan.compare import compare as verb
    from moeplan.report.progress import watching

    with watching(quiet=quiet) as progress:
        result = verb(
            models or (),
            gpu=gpu,
            engine=engine,
            engine_version=engine_version,
            context=context,
            concurrency=concurrency,
            input=input,
            output=output_tokens,
            ttft=ttft,
            tpot=tpot,
            arrival=arrival,
            workload=workload,
            encoder_tokens=encoder_tokens,
            quant=quant,
            kv_dtype=kv_dtype,
            utilization=utilization,
            offline=offline,
            headers=headers,
            profiles=profiles or (),
            progress=progress,
        )
    show(result, "compare", how)
