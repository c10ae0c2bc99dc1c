"""`moeplan estimate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from moeplan.cli.completion import engine_names, gpu_names, model_names
from moeplan.cli.load_options import (
    Acceptance,
    AcceptLength,
    Arrival,
    Concurrency,
    Context,
    DraftTokens,
    Input,
    OutputFile,
    OutputTokens,
    Routing,
    Skew,
    Tpot,
    Ttft,
    WorkloadFile,
    tokens_and_file,
)
from moeplan.cli.options import PAGE, Color, Json, PageFormat, Profiles, Quiet, show, showing
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_UNKNOWN, InputError

if TYPE_CHECKING:
    from moeplan.estimate.result import Estimate

MODEL_HELP = "Folder, config.json, .gguf, org/name, hf://org/name@revision, Hub URL, or catalogue name."


def estimate(
    context_of_call: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            autocompletion=model_names,
            help=MODEL_HELP,
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", "-g", help="Accelerator and number: h100, 4xH100, H100:4.", autocompletion=gpu_names),
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
    tp: Annotated[int | None, typer.Option("--tp", help="Tensor-parallel ranks.", min=1)] = None,
    pp: Annotated[int | None, typer.Option("--pp", help="Pipeline stages.", min=1)] = None,
    dp: Annotated[int | None, typer.Option("--dp", help="Data-parallel ranks.", min=1)] = None,
    ep: Annotated[int | None, typer.Option("--ep", help="Expert-parallel ranks; 1 is off.", min=1)] = None,
    dp_attention: Annotated[
        bool | None,
        typer.Option("--dp-attention", help="Attention whole on each data-parallel rank (SGLang, TensorRT-LLM)."),
    ] = None,
    dcp: Annotated[int | None, typer.Option("--dcp", help="Decode context parallel ranks.", min=1)] = None,
    redundant_experts: Annotated[
        int | None, typer.Option("--redundant-experts", help="Further copies of experts, over all ranks.", min=0)
    ] = None,
    pp_layers: Annotated[str | None, typer.Option("--pp-layers", help="Layers of each pipeline stage: 30,31.")] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", help="Machines that the GPUs are in.", min=1)] = None,
    utilization: Annotated[
        float | None, typer.Option("--utilization", help="Share of the memory that the engine may use, 0 to 1.")
    ] = None,
    context: Context = None,
    concurrency: Concurrency = None,
    input: Input = None,  # noqa: A002 - the option's name
    output: OutputTokens = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    arrival: Arrival = None,
    workload: WorkloadFile = None,
    routing: Routing = None,
    skew: Skew = None,
    draft_tokens: DraftTokens = None,
    acceptance: Acceptance = None,
    accept_length: AcceptLength = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="How fast, too; as with any option of a load but --context.")
    ] = False,
    encoder_tokens: Annotated[
        str | None, typer.Option("--encoder-tokens", help="Encoder length of an encoder-decoder model.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Dtype of what is not quantised: bfloat16, float16.")
    ] = None,
    quant: Annotated[
        str | None, typer.Option("--quant", help="What if the weights were fp8, int4, nvfp4, q4_k_m, ... instead.")
    ] = None,
    kv_dtype: Annotated[str | None, typer.Option("--kv-dtype", help="Cache dtype: auto, fp8, bfloat16.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the Hub.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read the checkpoint on the Hub also for a catalogue model.")
    ] = False,
    file: Annotated[
        str | None, typer.Option("--file", help="One of several models in a repository or folder: a .gguf file, say.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A context beyond the model's maximum is an error.")] = False,
    require_fit: Annotated[
        bool,
        typer.Option(
            "--require-fit", help="Exit 1 when it does not fit or misses a limit, 3 when that cannot be told."
        ),
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show formula, inputs and source of each line.")] = False,
    format: PageFormat = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output_file: OutputFile = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """What one model needs, line by line, and whether it fits a GPU.

    Everything behind -- is read as the engine's own command line.

    \b
    $ moeplan estimate mixtral-8x7b --gpu h100
    $ moeplan estimate Qwen/Qwen3-30B-A3B --gpu 2xl40s --context 32K --concurrency 16 --json
    $ moeplan estimate ./my-model/config.json --quant fp8 --gpu rtx-4090 --require-fit
    $ moeplan estimate gpt-oss-120b --gpu 2xh100 --concurrency 64 --input 2k --output 500 --ttft 2s --tpot 30ms
    $ moeplan estimate gpt-oss-120b --gpu 2xh100 --concurrency 64 --format html -o page.html
    $ moeplan estimate deepseek-v3 --gpu 8xh200 -- --tensor-parallel-size 8 --enable-expert-parallel
    """  # noqa: D301 - typer reads the character, not the escape
    if model is None and not context_of_call.obj:
        raise InputError("moeplan estimate needs MODEL", hint=f"MODEL: {MODEL_HELP[:1].lower()}{MODEL_HELP[1:]}")
    output_tokens, written_to = tokens_and_file(output, output_file)
    how = showing(format, json=json, output=written_to, quiet=quiet, color=color, also=(PAGE,))
    from moeplan.estimate import estimate as verb
    from moeplan.report.progress import watching

    with watching(quiet=quiet) as progress:
        result = verb(
            model,
            gpu=gpu,
            engine=engine,
            engine_version=engine_version,
            engine_args=context_of_call.obj or (),
            tp=tp,
            pp=pp,
            dp=dp,
            ep=ep,
            dp_attention=dp_attention,
            dcp=dcp,
            redundant_experts=redundant_experts,
            pp_layers=stage_layers(pp_layers),
            nodes=nodes,
            utilization=utilization,
            context=context,
            concurrency=concurrency,
            encoder_tokens=encoder_tokens,
            input=input,
            output=output_tokens,
            ttft=ttft,
            tpot=tpot,
            arrival=arrival,
            workload=workload,
            routing=routing,
            skew=skew,
            draft_tokens=draft_tokens,
            acceptance=acceptance,
            accept_length=accept_length,
            speed=speed or concurrency is not None,
            dtype=dtype,
            quant=quant,
            kv_dtype=kv_dtype,
            revision=revision,
            offline=offline,
            headers=headers,
            file=file,
            progress=progress,
            profiles=profiles or (),
            strict=strict,
        )
    show(result, "estimate", how, explain=explain)
    return _required(result) if require_fit else EXIT_DONE


def _required(result: "Estimate") -> int:
    """The exit code of `--require-fit`: what is known to be wrong comes before what is not known."""
    fits, speed = result.verdict.fits, result.speed
    if fits is False or (speed is not None and speed.meets.missed):
        return EXIT_FINDINGS
    open_ = fits is None or any(note.code == "limit-unknown" for note in result.notes)
    return EXIT_UNKNOWN if open_ else EXIT_DONE


def stage_layers(text: str | None) -> tuple[int, ...] | None:
    """`30,31` as numbers. Raises InputError for anything else."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--pp-layers {text!r} is no list of layers", hint="for instance --pp-layers 30,31")
    return tuple(int(part) for part in parts)
