"""Logs of serving engines, read for what they tell about memory: vLLM, SGLang, llama.cpp.

One file per engine words its lines; the lines are streamed, so that a log of gigabytes costs no more memory than a short one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from moeplan.core.engine_log import LOG_ENGINES, EngineLog
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.sources.engine_logs.lines import blocks_of, blocks_of_lines, telling_lines

if TYPE_CHECKING:
    from moeplan.sources.engine_logs.llamacpp import LlamaCppLog
    from moeplan.sources.engine_logs.sglang import SglangLog
    from moeplan.sources.engine_logs.vllm import VllmLog

    LogReader = VllmLog | SglangLog | LlamaCppLog

NAMES: dict[str, str] = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp"}
"""As people write them."""


def read_log(path: str | Path, engine: str | None = None) -> EngineLog:
    """The last start that a log tells of; `engine` says whose log it is, where several engines wrote into it.

    Raises InputError for what is no log, for one of another program, and for one that tells no figure.
    """
    name = str(path)
    if not name.strip():
        raise InputError(
            "the name of the log is empty", hint="give the path of the engine's log, or - for standard input"
        )
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - errors of opening and of reading are told apart
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file", hint="give the path of the engine's log") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder", hint="give the log itself, one file") from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None
    with file:
        try:
            return _read(blocks_of(file, name), name, engine)
        except (EOFError, zlib.error):
            raise InputError(f"{name}: is a gzip file that is cut or broken", hint="unpack it with gunzip") from None
        except OSError as error:
            raise _unreadable(name, error) from None


def read_log_lines(lines: Iterable[str], name: str, engine: str | None = None) -> EngineLog:
    """The same from lines of text, as they come from a pipe; `name` is what messages call them."""
    return _read(blocks_of_lines(lines, name), name, engine)


def _read(blocks: Iterable[bytes], name: str, engine: str | None) -> EngineLog:
    if engine is not None and engine not in LOG_ENGINES:
        raise InputError(f"logs of {engine!r} are not read", hint=f"engines that are: {', '.join(LOG_ENGINES)}")
    readers = _readers()
    words = sorted({word for reader in readers.values() for word in reader.words})
    for number, text in telling_lines(blocks, words):
        for reader in readers.values():
            reader.feed(number, text)
    told = {found: log for found, reader in readers.items() if (log := reader.log()) is not None}
    most = max(told, key=lambda found: len(told[found].readings), default=None)
    chosen = told.get(engine or most or "")
    if chosen is None:
        recognised = [found for found, reader in readers.items() if reader.starts.recognised]
        raise _nothing_told(name, engine, most, recognised)
    others = [NAMES[other] for other in told if other != chosen.engine]
    if engine is None and others:
        message = (
            f"the log also holds lines of {' and '.join(others)}; read is {NAMES[chosen.engine]}, which tells most"
        )
        return chosen._replace(notes=(*chosen.notes, Remark("log-several-engines", "warning", message)))
    return chosen


def _readers() -> dict[str, LogReader]:
    from moeplan.sources.engine_logs.llamacpp import LlamaCppLog
    from moeplan.sources.engine_logs.sglang import SglangLog
    from moeplan.sources.engine_logs.vllm import VllmLog

    return {"vllm": VllmLog(), "sglang": SglangLog(), "llamacpp": LlamaCppLog()}


def _nothing_told(name: str, engine: str | None, most: str | None, recognised: list[str]) -> InputError:
    """Why there is nothing to read: another engine's log, one that stops too early, or no engine's at all."""
    if engine is not None and most is not None:
        wanted = NAMES[engine]
        return InputError(
            f"{name}: is a log of {NAMES[most]}, not of {wanted}", hint=f"name {most} as the engine, or name none"
        )
    if recognised:
        return InputError(
            f"{name}: a log of {NAMES[recognised[0]]} that stops before any figure about memory",
            hint="give the whole log, from the engine's first line until it serves or fails",
        )
    return InputError(
        f"{name}: holds no line in which vLLM, SGLang or llama.cpp tells its memory",
        hint="give what the engine itself printed when it started, output and errors in one file",
    )


def _unreadable(name: str, error: Exception) -> InputError:
    why = getattr(error, "strerror", None) or str(error)
    return InputError(f"{name}: cannot be read: {why}", hint="check the path and its permissions")
