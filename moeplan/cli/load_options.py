"""Options that say what a service is asked for, as every command that takes a load has them."""

from pathlib import Path
from typing import Annotated

import typer

from moeplan.core.errors import InputError

Context = Annotated[
    str | None, typer.Option("--context", "-c", help="Tokens of one sequence: 32768, 32k (32,000), 32K (32,768).")
]
Concurrency = Annotated[
    str | None, typer.Option("--concurrency", help="Sequences at the same time, over all data-parallel ranks.")
]
Input = Annotated[str | None, typer.Option("--input", metavar="TOKENS", help="Tokens of a typical prompt: 2k.")]
OutputTokens = Annotated[
    list[str] | None,
    typer.Option(
        "--output", metavar="TOKENS", help="Tokens of a typical answer: 500. What is no number is a file, as with -o."
    ),
]
OutputFile = Annotated[
    Path | None, typer.Option("-o", metavar="FILE", help="Write to this file and not to the screen; - is the screen.")
]
Ttft = Annotated[str | None, typer.Option("--ttft", metavar="TIME", help="Longest time to the first token: 2s, 500ms.")]
Tpot = Annotated[str | None, typer.Option("--tpot", metavar="TIME", help="Longest time per further token: 30ms.")]
Arrival = Annotated[str | None, typer.Option("--arrival", metavar="RATE", help="Requests that come in: 12/s, 300/min.")]
WorkloadFile = Annotated[
    str | None,
    typer.Option("--workload", metavar="FILE", help="File of classes, lengths and limits: docs/workload.md."),
]

Routing = Annotated[
    str | None,
    typer.Option("--routing", metavar="FILE", help="How experts are used: a file of `moeplan routing`."),
]
Skew = Annotated[
    float | None,
    typer.Option("--skew", help="How unevenly experts are chosen: 0 even, 0.3 light (assumed), 0.7 heavy."),
]
DraftTokens = Annotated[
    int | None,
    typer.Option(
        "--draft-tokens",
        metavar="N",
        help="Tokens drafted a step (MTP, speculation): by the model's own draft layers, else looked up in the text.",
    ),
]
Acceptance = Annotated[
    str | None,
    typer.Option(
        "--acceptance",
        metavar="SHARE",
        help="Drafted tokens taken where all before them were: 0.8, 80%; else from which share on drafts pay is told.",
    ),
]
AcceptLength = Annotated[
    float | None,
    typer.Option(
        "--accept-length", metavar="TOKENS", help="The same as the mean acceptance length that engines log: 2.4."
    ),
]


def tokens_and_file(texts: list[str] | None, file: Path | None) -> tuple[str | None, Path | None]:
    """What `--output` and `-o` say: a length of answers, and a file to write to.

    `--output` is both, since every command writes to a file by that name: what begins as a number does is a length, also
    where it is none, and everything else is a file. InputError where one of the two is stated twice.
    """
    tokens: str | None = None
    for text in texts or ():
        if _is_file(text):
            if file is not None:
                raise InputError(f"--output {text} and -o {file}: two files", hint="name one file to write to")
            file = Path(text)
        elif tokens is not None:
            raise InputError(f"--output {tokens} and --output {text}: two lengths", hint="say one length of answers")
        else:
            tokens = text
    return tokens, file


def _is_file(text: str) -> bool:
    """`answer.json`, `-`, `out/1`; but not `500`, `1k`, `0`, `-5`, `1.5`, nor `12x`, which is a length with a mistake."""
    return "/" in text or "\\" in text or text == "-" or not text.lstrip("+-")[:1].isdecimal() or _has_ending(text)


def _has_ending(text: str) -> bool:
    """`2024.json` has an ending, `1.5k` has not."""
    ending = text.rpartition(".")[2] if "." in text else ""
    return len(ending) > 1 and ending.isalpha()
