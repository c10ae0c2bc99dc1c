"""`moeplan routing`: how a model's experts are really used. A group of commands, one function each."""

from pathlib import Path
from typing import Annotated

import typer

from moeplan.cli.completion import engine_names, gpu_names, model_names
from moeplan.cli.load_options import Concurrency, Context, Input, OutputFile, OutputTokens, tokens_and_file
from moeplan.cli.options import PAGE, Color, Format, Json, Output, PageFormat, Profiles, Quiet, show, showing
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_UNKNOWN, InputError
from moeplan.core.units import parse_count, parse_share

routing = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How experts are really used: capture it, report it, compare it, place experts by it.",
    epilog="FILE is a capture (.jsonl), counts (.json) or a profile (.yaml): docs/routing.md. Each command has --help.",
)

FILE_HELP = "A capture (.jsonl), counts (.json) or a profile (.yaml)."
File = Annotated[str, typer.Argument(metavar="FILE", help=FILE_HELP)]
Phase = Annotated[str, typer.Option("--phase", help="Tokens of prompts or decoded ones: all, prefill, decode.")]
Class = Annotated[str | None, typer.Option("--class", help="Only this class of prompts: code, mathematics, ...")]
Layers = Annotated[
    list[str] | None, typer.Option("--layer", metavar="LAYERS", help="Only these layers: 3, 10-20; may be repeated.")
]
KINDS = "sglang, vllm, trtllm, imatrix or returned"
DataFile = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")]


@routing.command("capture", short_help="Which experts a local checkpoint chooses, prompt by prompt.")
def capture(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder of a checkpoint: config.json, tokenizer, safetensors.")
    ],
    output: DataFile,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", "-p", metavar="FILE", help="A prompt per line, or JSON lines; else the set that ships."
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=0, help="Tokens decoded after each prompt.", show_default=True)
    ] = 64,
    max_prompt_tokens: Annotated[
        int, typer.Option("--max-prompt-tokens", min=1, help="Longer prompts are not run.", show_default=True)
    ] = 16384,
    device: Annotated[
        str | None, typer.Option("--device", help="cuda, cuda:1, rocm, mps or cpu; else the best there is.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16, float16, float32; else the checkpoint's.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn while decoding.", show_default=True)] = 0,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """Which experts a local checkpoint chooses: it is run on prompts, and each token's experts are kept.

    The file holds hashes and lengths of prompts, never their texts. It grows by a line per prompt: the same command takes
    up what is missing. Needs torch and transformers: pip install 'moeplan[capture]'.

    \b
    $ moeplan routing capture ./olmoe -o capture.jsonl
    $ moeplan routing capture ./olmoe --prompts prompts.jsonl --max-new-tokens 128 -o capture.jsonl
    """  # noqa: D301 - typer reads the character, not the escape
    how = showing(format, json=json, output=None, quiet=quiet, color=color)
    from moeplan.report.progress import watching
    from moeplan.routing.capture import capture as verb

    with watching("running prompts", quiet=quiet) as bar:
        result = verb(
            model,
            prompts,
            out=output,
            device=device,
            dtype=dtype,
            max_new_tokens=max_new_tokens,
            max_prompt_tokens=max_prompt_tokens,
            seed=seed,
            progress=None if bar is None else lambda done, total, _: bar(done, total),
        )
    show(result, "routing_captured", how)
    if not result.complete:
        return EXIT_INTERRUPTED
    return EXIT_DONE if result.written is not None else EXIT_UNKNOWN


@routing.command("import", short_help="What an engine wrote of its routing, as counts.")
def import_(
    dump: Annotated[
        str, typer.Argument(metavar="DUMP", help="A file or folder that an engine wrote: docs/routing.md lists them.")
    ],
    output: DataFile,
    kind: Annotated[str | None, typer.Option("--kind", help=f"Whose it is: {KINDS}; else found out.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            autocompletion=model_names,
            help="The model that was counted: its layers and experts are held against the dump.",
        ),
    ] = None,
    experts_per_token: Annotated[
        float | None, typer.Option("--experts-per-token", help="Where neither the dump nor --model tells it.")
    ] = None,
    phase: Annotated[str, typer.Option("--phase", help="What was counted, where that is one alone.")] = "all",
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """What an engine wrote of its routing, as counts (.json) or a profile (.yaml). Token ids are not kept.

    Read are dumps of SGLang's recorder, vLLM's load statistics, TensorRT-LLM's expert statistics, importance matrices of
    llama.cpp, and responses with the experts of each token.

    \b
    $ moeplan routing import expert_distribution_recorder_1.pt --model deepseek-v3 -o counts.json
    $ moeplan routing import EXPERT_STATISTIC_PATH/ --kind trtllm -o counts.json
    """  # noqa: D301 - typer reads the character, not the escape
    how = showing(format, json=json, output=None, quiet=quiet, color=color)
    from moeplan.routing.imports import import_dump
    from moeplan.routing.profiling import keep

    found = import_dump(
        dump,
        kind=kind,
        model=model,
        experts_per_token=experts_per_token,
        phase=phase,
        offline=offline,
        profiles=profiles or (),
    )
    show(keep(found, output), "routing_written", how)


@routing.command("report", short_help="How evenly experts are loaded, layer by layer.")
def report(
    file: File,
    phase: Phase = "all",
    class_: Class = None,
    layer: Layers = None,
    drop_bound: Annotated[
        str, typer.Option("--drop-bound", help="Share of choices that a capacity may drop.", show_default=True)
    ] = "1%",
    step_tokens: Annotated[
        str, typer.Option("--step-tokens", help="Tokens of the step that a capacity is for.", show_default=True)
    ] = "4096",
    format: Annotated[  # noqa: A002 - the option's name
        str,
        typer.Option(
            "--format", "-f", help="table, json, markdown, html (a page), or csv: a line per layer.", show_default=True
        ),
    ] = "table",
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """How evenly experts are loaded, layer by layer, and what chance alone would do.

    \b
    $ moeplan routing report capture.jsonl
    $ moeplan routing report capture.jsonl --phase decode --layer 10-20
    $ moeplan routing report profile.yaml --format csv -o layers.csv
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    how = showing(format, json=json, output=output, quiet=quiet, color=color, also=("csv", PAGE))
    bound = parse_share(drop_bound, "--drop-bound", "1%")
    step = parse_count(step_tokens, "--step-tokens").value
    from moeplan.routing.report import report as verb

    result = verb(file, phase=phase, prompt_class=class_, layers=layer or (), drop_bound=bound, step_tokens=step)
    show(result, "routing_report", how)


@routing.command("drift", short_help="How far the use of experts moved between two files.")
def drift(
    a: Annotated[str, typer.Argument(metavar="A", help=FILE_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same model under other prompts, precision or engine.")],
    bound: Annotated[
        str | None, typer.Option("--bound", help="Largest Jensen-Shannon distance that passes, 0 to 1: 0.1.")
    ] = None,
    phase: Phase = "all",
    class_: Class = None,
    layer: Layers = None,
    format: PageFormat = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> int:
    """How far the use of experts has moved from A to B, layer by layer, beyond the noise.

    Of two captures of the same prompts also how many tokens have the same experts.
    Exit 1 where a layer moved beyond --bound, 3 where too few tokens were seen to tell.

    \b
    $ moeplan routing drift last-week.yaml today.yaml --bound 0.1
    $ moeplan routing drift bf16.jsonl fp8.jsonl
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    how = showing(format, json=json, output=output, quiet=quiet, color=color, also=(PAGE,))
    from moeplan.routing.drift import drift as verb

    most = None if bound is None else parse_share(bound, "--bound", "0.1")
    result = verb(a, b, bound=most, phase=phase, prompt_class=class_, layers=layer or ())
    show(result, "routing_drift", how)
    if result.passed is None:
        return EXIT_UNKNOWN
    return EXIT_DONE if result.passed else EXIT_FINDINGS


@routing.command("place", short_help="Which rank holds which experts, by their load; what spare slots are worth.")
def place(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help=f"{FILE_HELP} Else --skew, or what was published.")
    ] = None,
    *,
    ranks: Annotated[int, typer.Option("--ranks", "-r", min=1, help="Ranks that share the experts (EP).")],
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Hosts that the ranks are on.", show_default=True)] = 1,
    redundant: Annotated[
        list[str] | None,
        typer.Option(
            "--redundant",
            metavar="COPIES",
            help="Further copies of busy experts, over all ranks: 32, or 0,32,64 to compare.",
        ),
    ] = None,
    groups: Annotated[
        int | None, typer.Option("--groups", help="Groups of the router (n_group); else as the model has them.")
    ] = None,
    kept_groups: Annotated[
        int | None, typer.Option("--kept-groups", help="Groups that a token keeps (topk_group).")
    ] = None,
    live: Annotated[
        str | None, typer.Option("--live", metavar="FILE", help="Other counts, to judge the placement by.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model, for the memory of the copies.", autocompletion=model_names),
    ] = None,
    quant: Annotated[
        str | None, typer.Option("--quant", help="Weight format of the model, as estimate takes it.")
    ] = None,
    skew: Annotated[
        float | None,
        typer.Option("--skew", help="Without FILE: how unevenly experts are chosen, 0 even, 0.3 light, 0.7 heavy."),
    ] = None,
    step_tokens: Annotated[
        str | None,
        typer.Option(
            "--step-tokens", help="Of a single step, over all ranks; else --concurrency, or 128 for each rank."
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", "-g", help="Accelerator: what copies are worth in time on it.", autocompletion=gpu_names),
    ] = None,
    engine: Annotated[
        str,
        typer.Option("--engine", "-e", help="vllm, sglang or trtllm.", autocompletion=engine_names, show_default=True),
    ] = "vllm",
    tp: Annotated[
        int,
        typer.Option("--tp", min=1, help="Ranks that share attention; the others have their own.", show_default=True),
    ] = 1,
    concurrency: Concurrency = None,
    context: Context = None,
    input: Input = None,  # noqa: A002 - the option's name
    output: OutputTokens = None,
    phase: Phase = "all",
    class_: Class = None,
    layer: Layers = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never open a connection.")] = False,
    format: PageFormat = "table",  # noqa: A002 - the option's name
    json: Json = False,
    output_file: OutputFile = None,
    profiles: Profiles = None,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """Which rank holds which experts, by their load: before, after, what copies cost, and how many of them pay.

    Without FILE a skew is placed: as stated, or as published of the model. With --gpu and --concurrency steps are timed.

    \b
    $ moeplan routing place profile.yaml --ranks 8
    $ moeplan routing place profile.yaml --ranks 32 --nodes 4 --redundant 32 --model deepseek-v3
    $ moeplan routing place monday.yaml --ranks 8 --redundant 8 --live tuesday.yaml
    $ moeplan routing place --model deepseek-v3 --ranks 32 --skew 0.65 --gpu h200 --concurrency 2048
    """  # noqa: D301 - \b is the character that keeps lines apart in help
    output_tokens, written_to = tokens_and_file(output, output_file)
    how = showing(format, json=json, output=written_to, quiet=quiet, color=color, also=(PAGE,))
    from moeplan.routing.placing import place as verb

    result = verb(
        file,
        ranks=ranks,
        nodes=nodes,
        redundant=_copies(redundant),
        groups=groups,
        kept_groups=kept_groups,
        live=live,
        model=model,
        quant=quant,
        skew=skew,
        step_tokens=step_tokens,
        gpu=gpu,
        engine=engine,
        tp=tp,
        concurrency=concurrency,
        context=context,
        input=input,
        output=output_tokens,
        phase=phase,
        prompt_class=class_,
        layers=layer or (),
        offline=offline,
        profiles=profiles or (),
    )
    show(result, "routing_placement", how)


def _copies(texts: list[str] | None) -> list[int] | None:
    """Numbers of copies, each a word or between commas; None where none were named."""
    if texts is None:
        return None
    words = [word.strip() for text in texts for word in text.split(",")]
    for word in words:
        if not word.isdecimal() or not word.isascii() or len(word) > 12:
            raise InputError(
                f"--redundant {word!r} is no number of copies", hint="for instance --redundant 32, or 0,32,64"
            )
    return [int(word) for word in words]


@routing.command("profile", short_help="Any file folded to a profile, to be kept.")
def profile(
    file: File,
    output: DataFile,
    format: Format = "table",  # noqa: A002 - the option's name
    json: Json = False,
    quiet: Quiet = False,
    color: Color = "auto",
) -> None:
    """Any file of routing folded to a profile: counts and curves, for `estimate --routing` and to be kept.

    \b
    $ moeplan routing profile capture.jsonl -o profile.yaml
    """  # noqa: D301 - typer reads the character, not the escape
    how = showing(format, json=json, output=None, quiet=quiet, color=color)
    from moeplan.routing.profiling import profile as verb

    show(verb(file, output=output), "routing_written", how)
