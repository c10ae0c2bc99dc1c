"""Files of settings that a command names, where a ConfigMap of the same text holds them: their settings become words."""

from __future__ import annotations

from collections.abc import Mapping
from posixpath import normpath

from moeplan.core.deployed import FileRemark, Quote
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.mounted_files import mounted_file
from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.stream import Stream
from moeplan.sources.deployments.words import program_length, value_of, without

_CONFIG = "--config"
_ENGINE_FILES = ("--extra-engine-args", "--extra-llm-api-options", _CONFIG)
_ENGINE_JSON = ("--override-engine-args",)


def with_engine_files(run: Run, container: Node, pod: Node, stream: Stream) -> tuple[Run, tuple[FileRemark, ...]]:
    """The run with the settings of its engine file among its words.

    TensorRT-LLM lays the file over the command line (llmapi/llm_args.py: update_llm_args_with_extra_dict), and
    `--override-engine-args` over both; vLLM and SGLang lay the command line over the file.
    """
    remarks: tuple[FileRemark, ...] = ()
    path = value_of(run.command, *_names(run.engine))
    found = mounted_file(path, container, pod, stream) if path is not None else None
    if isinstance(found, FileRemark):
        remarks = (found,)
    elif found is not None:
        run, remarks = _with_file(run, found)
    override = value_of(run.command, *_ENGINE_JSON)
    if override is not None and run.engine == "trtllm" and override.known:
        words, broken = _file_words(run.engine, override._replace(why=""))
        if words or not broken:
            run = run._replace(command=(*without(run.command, *_ENGINE_JSON), *words))
    return run, remarks


def with_written_files(run: Run, files: Mapping[str, Quote]) -> Run:
    """The run with the settings of an engine file that its own script writes; as it is where that is no YAML."""
    path = value_of(run.command, *_names(run.engine))
    text = files.get(normpath(path.text)) if path is not None and path.known else None
    if text is None:
        return run
    filled, remarks = _with_file(run, text)
    return run if any(remark.code == "file-broken" for remark in remarks) else filled


def _names(engine: str) -> tuple[str, ...]:
    return _ENGINE_FILES if engine == "trtllm" else (_CONFIG,)


def _with_file(run: Run, text: Quote) -> tuple[Run, tuple[FileRemark, ...]]:
    words, broken = _file_words(run.engine, text)
    command = without(run.command, *_names(run.engine))
    command = (*command, *words) if run.engine == "trtllm" else before_flags(command, words)
    return run._replace(command=command), tuple(broken)


def before_flags(command: tuple[Quote, ...], words: tuple[Quote, ...]) -> tuple[Quote, ...]:
    """The words behind the program and its model, in front of all flags: those of the command count over them."""
    place = program_length(command)
    while place < len(command) and not command[place].text.startswith("-"):
        place += 1
    return (*command[:place], *words, *command[place:])


def _file_words(engine: str, file: Quote) -> tuple[tuple[Quote, ...], list[FileRemark]]:
    """The words of an engine's file; a broken file has none. Those of another file stand where that is referred to."""
    spot = file.spot
    composed = compose(file.text, spot.line, spot.path, spot.column)
    remarks = composed.remarks
    if file.put_in:
        remarks = [each._replace(message=f"{file.why}: {each.message}", spot=spot) for each in remarks]
    if any(each.code == "file-broken" for each in remarks) or not composed.documents:
        return (), remarks
    if engine == "trtllm":
        from moeplan.sources.deployments.kinds.trtllm_engine import engine_words

        words = engine_words(composed.documents[0])
    else:
        from moeplan.sources.deployments.kinds.vllm_config import option_words

        words = option_words(composed.documents[0], negated=engine == "vllm")
    return tuple(word._replace(why=file.why, spot=spot if file.put_in else word.spot) for word in words), remarks
