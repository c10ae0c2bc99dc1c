"""A model as it was read, and how it was asked for: what all readers of models hand on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.errors import ConfigError, InputError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import BF16, Quantisation
from moeplan.sources.families import read_config
from moeplan.sources.quantisation import read_quantisation

if TYPE_CHECKING:  # only who asks for a GGUF file pays for its reader
    from moeplan.sources.gguf.model import GgufFile

SourceKind = Literal["catalogue", "config", "headers", "gguf"]

QUANTISER_UNKNOWN = "quantiser-unknown"
"""Code of the note that says so."""

WITH_HEADERS = (".gguf", ".safetensors")
WITHOUT_HEADERS = (".bin", ".pt", ".pth")


class LoadedModel(NamedTuple):
    """A model, how its checkpoint stores weights, and where that was read."""

    id: str
    revision: str | None
    source: str
    source_kind: SourceKind
    spec: ModelSpec
    quantisation: Quantisation | None
    """None where the checkpoint is stored in its plain dtype."""
    remarks: tuple[Remark, ...]
    checkpoint: Checkpoint | None = None
    """Tensors of the checkpoint's headers, where they were read."""
    config: Mapping[str, Any] | None = None
    """As it was read; None for GGUF, which has none."""
    sidecar: Mapping[str, Any] | None = None
    """hf_quant_config.json, where the checkpoint has one."""


class Asked(NamedTuple):
    """How a model is to be read."""

    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    offline: bool = False
    """Open no connection."""
    headers: bool = False
    """Read the checkpoint even of a model that the catalogue knows."""
    file: str | None = None
    """One file of a folder or repository that holds several models."""
    profile_folders: tuple[Path, ...] = ()
    progress: Callable[[int, int], None] | None = None
    """Told how many headers of how many are read."""
    paths: bool = True
    """Whether it may be a path of this machine; what a container calls a path is none here."""


AS_IT_COMES = Asked()


def loaded_model(
    name: str,
    revision: str | None,
    source: str,
    kind: SourceKind,
    config: Mapping[str, Any],
    sidecar: Mapping[str, Any] | None,
    where: str,
    remarks: tuple[Remark, ...],
    checkpoint: Checkpoint | None = None,
) -> LoadedModel:
    """The model that a config and its sidecar describe, with the checkpoint where its headers were read."""
    spec = read_config(config, where)
    try:
        quantisation = read_quantisation(config, sidecar, where)
    except ConfigError as error:
        if checkpoint is None:
            raise
        # The headers tell every byte all the same; only how many parameters a packed word holds is left to the config.
        quantisation = None
        told = f"{error.message}: bytes are those of the headers, parameters those of the config"
        remarks += (Remark(QUANTISER_UNKNOWN, "warning", told),)
    return LoadedModel(
        name, revision, source, kind, spec, quantisation, remarks + spec.remarks, checkpoint, config, sidecar
    )


def from_gguf(file: "GgufFile", name: str, commit: str | None, source: str) -> LoadedModel:
    """A model as its GGUF file describes it; its formats are those of its tensors."""
    quant = file.checkpoint.metadata.get("general.file_type", "gguf").lower()
    spec = read_config(file.config, source)
    stored = Quantisation(f"gguf {quant}", BF16)
    return LoadedModel(name, commit, source, "gguf", spec, stored, file.remarks + spec.remarks, file.checkpoint)


def check_file(file: str) -> None:
    """Raises InputError for a file that tells nothing by a header."""
    if file.startswith("/") or ".." in file.split("/"):
        raise InputError(
            f"--file {file}: names nothing inside the model's folder", hint="give a name as the folder lists it"
        )
    if file.lower().endswith(WITHOUT_HEADERS):
        raise InputError(f"--file {file}: weights in this format have no header to read", hint="leave out --file")
    if not file.lower().endswith(WITH_HEADERS):
        raise InputError(
            f"--file {file}: only .safetensors and .gguf files have headers to read", hint="leave out --file"
        )


def one_of(files: list[str]) -> str:
    """The way out that names files to choose from."""
    more = f" and {len(files) - 12} more" if len(files) > 12 else ""
    return f"give one of: {', '.join(files[:12])}{more}" if files else "leave out --file: there is none with headers"


_UNREAD = {"bin-only", "checkpoint-ambiguous", "gguf-only", "index-without-shards", "no-model-files"}


def derived(remarks: tuple[Remark, ...]) -> tuple[Remark, ...]:
    """The remarks on why no headers were read, with what follows for the weights."""
    choose = {"checkpoint-ambiguous": "; --file reads one of them"}
    return tuple(
        remark._replace(message=f"weights are derived from the config: {remark.message}{choose.get(remark.code, '')}")
        if remark.code in _UNREAD
        else remark
        for remark in remarks
    )
