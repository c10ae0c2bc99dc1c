"""Ollama's Modelfile: FROM and PARAMETER lines, as words of llama.cpp, which Ollama runs.

Source: docs.ollama.com/modelfile. A name of Ollama's own library is no Hub id: what lies behind it is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Quote, Spot
from moeplan.sources.deployments.stream import Found, Stream

KIND = "ollama.modelfile"

_INSTRUCTION = re.compile(
    r"\s*(FROM|PARAMETER|TEMPLATE|SYSTEM|ADAPTER|LICENSE|MESSAGE|REQUIRES)\s+(\S.*)", re.IGNORECASE
)
_OF_IMAGES = re.compile(r"^\s*(?:RUN|CMD|COPY|ENTRYPOINT|ENV|ADD|EXPOSE|WORKDIR|ARG)\s", re.MULTILINE)
"""Instructions of a Dockerfile, whose first word is FROM too."""
_OF_MODELS = re.compile(r"^\s*(?:PARAMETER|TEMPLATE|SYSTEM|ADAPTER|MESSAGE)\s", re.MULTILINE | re.IGNORECASE)
_HUB = re.compile(r"(?:https?://)?(?:hf\.co|huggingface\.co)/([^/\s]+/[^/:\s]+)(?::(\S+))?", re.IGNORECASE)
_FENCE = '"""'

_FLAGS = {
    "num_ctx": "--ctx-size",
    "num_gpu": "--gpu-layers",
    "num_batch": "--batch-size",
    "main_gpu": "--main-gpu",
    "num_thread": "--threads",
}
"""Parameters that llama.cpp has a flag for; the others are about sampling."""
_SWITCHES = {"use_mmap": ("", "--no-mmap"), "use_mlock": ("--mlock", "")}


class _Line(NamedTuple):
    name: str
    """The instruction, in capitals."""
    text: str
    spot: Spot
    """Of the text."""


def recognises_text(name: str, text: str) -> bool:
    """A file that is called so; or FROM first, instructions that only models have, and none of an image."""
    last = name.replace("\\", "/").rpartition("/")[2].lower()
    first = next((line.split(None, 1)[0] for line in text.split("\n") if line.strip() and line.lstrip()[0] != "#"), "")
    if first.upper() != "FROM":
        return False
    if last.startswith("modelfile") or last.endswith("modelfile"):
        return True
    return bool(_OF_MODELS.search(text)) and not _OF_IMAGES.search(text)


def read_text(name: str, text: str, stream: Stream) -> Found:
    """One engine of llama.cpp."""
    lines = list(_lines(text))
    origin = next((line for line in lines if line.name == "FROM"), None)
    if origin is None:
        return Found()
    words, remarks = _model(origin)
    adapters = [line for line in lines if line.name == "ADAPTER"]
    words += [word for line in adapters for word in (Quote("--lora", line.spot), Quote(line.text, line.spot))]
    parameters = [line for line in lines if line.name == "PARAMETER"]
    words += [word for line in parameters for word in _parameter(line)]
    if not any(word.text == "--ctx-size" for word in words):
        told = "PARAMETER num_ctx is not set: Ollama then chooses a length by the card; the model's own is taken"
        hint = "state it: PARAMETER num_ctx 8192"
        remarks.append(FileRemark("context-not-stated", told, origin.spot, hint))
    deployed = Deployed(
        KIND, _name(stream), Spot(origin.spot.line), engine="llamacpp", command=tuple(words), remarks=tuple(remarks)
    )
    return Found((deployed,))


def _model(origin: _Line) -> tuple[list[Quote], list[FileRemark]]:
    """The words for FROM: a repository of the Hub, or a file; none for a name of Ollama's library, and a remark."""
    text, spot = origin.text, origin.spot
    on_hub = _HUB.fullmatch(text)
    if on_hub:
        repository, quant = on_hub.groups()
        return [Quote("-hf", spot), Quote(f"{repository}:{quant}" if quant else repository, spot)], []
    if (
        text.startswith((".", "/", "~", "\\"))
        or text.lower().endswith((".gguf", ".bin"))
        or re.match(r"[A-Za-z]:\\", text)
    ):
        return [Quote("-m", spot), Quote(text, spot)], []
    told = f"FROM {text}: a name of Ollama's library is no Hub id, so the model is not known"
    hint = "name its weights on the Hub: a comment `# moeplan: model=ORG/NAME`, or FROM hf.co/ORG/NAME:QUANT"
    return [], [FileRemark("ollama-library", told, spot, hint)]


def _parameter(line: _Line) -> tuple[Quote, ...]:
    name, _, value = line.text.partition(" ")
    value = _unquoted(value)
    spot = line.spot
    if name.lower() in _SWITCHES:
        on, off = _SWITCHES[name.lower()]
        word = on if value.lower() == "true" else off if value.lower() == "false" else ""
        return (Quote(word, spot),) if word else ()
    flag = _FLAGS.get(name.lower())
    return (Quote(flag, spot), Quote(value, spot)) if flag and value else ()


def _lines(text: str) -> Iterator[_Line]:
    """The instructions; texts between three quotes are passed over, whatever stands in them."""
    inside = False
    for number, line in enumerate(text.split("\n"), 1):
        fences = line.count(_FENCE)
        found = None if inside else _INSTRUCTION.fullmatch(line)
        if found and not fences:
            yield _Line(found.group(1).upper(), _unquoted(found.group(2)), Spot(number, found.start(2) + 1))
        inside ^= fences % 2 == 1


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _name(stream: Stream) -> str:
    """`Modelfile.qwen3` and `qwen3.Modelfile` are called `qwen3`."""
    name = stream.path.rpartition("/")[2]
    rest = re.sub(r"(?i)^modelfile[._-]?|[._-]?modelfile$", "", name)
    return rest or name
