"""`moeplan plan`."""

from typing import Annotated

import typer

from moeplan.cli.completion import engine_names, gpu_names, model_names
from moeplan.cli.estimate import MODEL_HELP
from moeplan.cli.load_options import (
    Arrival,
    Concurrency,
    Context,
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
from moeplan.cli.options import PAGE, Color, Json, PageFormat, Profiles, Quiet, show, showing, write_out
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_UNKNOWN, InputError

LLAMACPP = {"llamacpp", "llama.cpp", "llama-cpp", "llama-server"}
"""Names of the engine that `--ram` plans with."""


def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=model_names, help=MODEL_HELP)],
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            "--gpus",
            "--gpu",
            "-g",
            autocompletion=gpu_names,
            help="Cards to choose from: h100,h200; 8xh100 for at most eight. Default: all profiles.",
        ),
    ] = None,
    max_gpus: Annotated[int, typer.Option("--max-gpus", help="GPUs of a plan at most.", show_default=True)] = 64,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            "-e",
            autocompletion=engine_names,
            help="vllm, sglang, trtllm, llamacpp; several with commas. Default: all.",
        ),
    ] = None,
    quant: Annotated[
        list[str] | None,
        typer.Option(
            "--quant",
            help="Formats: stored (the checkpoint's own), fp8, nvfp4, int4, ...; with --ram q8_0, q4_k_m, ... Default: all.",
        ),
    ] = None,
    kv_dtype: Annotated[str | None, typer.Option("--kv-dtype", help="Cache dtype: auto, fp8, bfloat16.")] = None,
    context: Context = None,
    concurrency: Concurrency = None,
    input: Input = None,  # noqa: A002 - the option's name
    output: OutputTokens = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    arrival: Arrival = None,
    workload: WorkloadFile = None,
    rank: Annotated[
        str, typer.Option("--rank", help="cost, gpus, latency or throughput (per GPU).", show_default=True)
    ] = "cost",
    pools: Annotated[
        str, typer.Option("--pools", help="Prefill and decode together, apart, or both.", show_default=True)
    ] = "both",
    ram: Annotated[
        str | None,
        typer.Option(
            "--ram", metavar="SIZE", help="Host memory of the machine around the card: 128GiB. Plans with llama.cpp."
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="With --ram, how fast it is: 2ch-ddr5-5600, 8ch-ddr5-4800, a profile.")
    ] = None,
    ram_bandwidth: Annotated[
        str | None,
        typer.Option(
            "--ram-bandwidth", metavar="RATE", help="With --ram, in place of --host: 80GB/s, nominal, of one socket."
        ),
    ] = None,
    sockets: Annotated[int | None, typer.Option("--sockets", help="With --ram, sockets with that memory each.")] = None,
    routing: Routing = None,
    skew: Skew = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option("--fallback", help="Next plan under a failure: rank-lost, skew-doubled, context-p99, all."),
    ] = None,
    dense: Annotated[
        str | None, typer.Option("--dense", metavar="MODEL", help="A model to fall back on, planned the same way.")
    ] = None,
    emit: Annotated[
        str | None,
        typer.Option(
            "--emit",
            help="Print the best plan as a deployment file: k8s, compose or vllm-yaml; in --json and html beside it.",
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the Hub.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read the checkpoint on the Hub also for a catalogue model.")
    ] = False,
    file: Annotated[
        str | None, typer.Option("--file", help="One of several models in a repository or folder: a .gguf file, say.")
    ] = None,
    format: PageFormat = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output_file: OutputFile = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """Which hardware and layout for a workload, ranked, and what to fall back on.

    With --ram: what of a model stays in host memory where one card, or several of a kind, are too small for it, with the command and how
    fast at most.

    Exit codes: 0 a plan, 1 none does all that is asked, 3 some fit and their speed is not known.

    \b
    $ moeplan plan deepseek-v3 --context 32k --concurrency 64 --ttft 2s --tpot 40ms
    $ moeplan plan qwen3-30b-a3b --gpus l40s,rtx-4090 --concurrency 16 --rank gpus --fallback all
    $ moeplan plan gpt-oss-120b --gpus h100 --concurrency 64 --emit k8s -o deployment.yaml
    $ moeplan plan gpt-oss-120b --gpu rtx-4090 --ram 128GiB
    """  # noqa: D301 - typer reads the character, not the escape
    output_tokens, path = tokens_and_file(output, output_file)
    how = showing(format, json=json, output=path, quiet=quiet, color=color, also=(PAGE,))
    if ram is not None:
        _refuse(
            ("--engine", engine if {name.lower() for name in _listed(engine)} - LLAMACPP else None),
            ("--max-gpus", max_gpus if max_gpus != 64 else None),
            ("--rank", rank if rank != "cost" else None), ("--pools", pools if pools != "both" else None), ("--ttft", ttft),
            ("--tpot", tpot), ("--arrival", arrival), ("--workload", workload), ("--fallback", fallback), ("--dense", dense),
            ("--emit", emit),
        )  # fmt: skip
        from moeplan.offload import offload

        found = offload(
            model, gpu=_listed(gpus), ram=ram, host=host, ram_bandwidth=ram_bandwidth, sockets=1 if sockets is None else sockets,
            quants=_listed(quant), kv_dtype=kv_dtype, routing=routing, skew=skew, context=context, concurrency=concurrency,
            input=input, output=output_tokens, revision=revision, offline=offline, headers=headers, file=file,
            profiles=profiles or (),
        )  # fmt: skip
        show(found, "offload", how)
        return EXIT_FINDINGS if found.best is None else EXIT_DONE
    for option, value in (("--host", host), ("--ram-bandwidth", ram_bandwidth), ("--sockets", sockets)):
        if value is not None:
            raise InputError(
                f"{option} {value} says nothing without --ram", hint=f"say --ram 128GiB too, or leave {option} out"
            )
    from moeplan.plan import plan as verb

    result = verb(
        model,
        gpus=_listed(gpus),
        max_gpus=max_gpus,
        engines=_listed(engine),
        quants=_listed(quant),
        kv_dtype=kv_dtype,
        rank=rank,
        pools=pools,
        routing=routing,
        skew=skew,
        fallback=_listed(fallback),
        dense=dense,
        emit=emit,
        context=context,
        concurrency=concurrency,
        input=input,
        output=output_tokens,
        ttft=ttft,
        tpot=tpot,
        arrival=arrival,
        workload=workload,
        revision=revision,
        offline=offline,
        headers=headers,
        file=file,
        profiles=profiles or (),
    )
    if result.deployment is not None and how.format not in ("json", PAGE):
        write_out(result.deployment.text, how)
    else:
        show(result, "plan", how)
    if result.best is not None:
        return EXIT_DONE
    # Where no card could be looked at, or no time of one is known, nothing was found out.
    return EXIT_UNKNOWN if result.unmeasured or not result.searched.cards else EXIT_FINDINGS


def _refuse(*options: tuple[str, object]) -> None:
    """InputError for options of `plan` that mean nothing with `--ram`."""
    for option, value in options:
        if value:
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            hint = f"leave {option} out, or leave --ram out"
            if option == "--engine":
                hint = "leave --engine out: the ways of vllm and sglang are shown beside llama.cpp's"
            raise InputError(f"{option} {text} does not go with --ram", hint=hint)


def _listed(values: list[str] | None) -> tuple[str, ...]:
    """`a,b` and `a` `b` alike."""
    return tuple(name.strip() for value in values or () for name in value.split(",") if name.strip())
