"""`moeplan routing capture`: a local checkpoint is run on prompts, and what its routers choose goes to a file.

The file grows by a line per prompt and is whole after each: Ctrl-C, a crash or a full disk lose the prompt that was
running, and the same command takes up what is missing. It holds hashes and lengths of prompts, never their text or tokens.
(The hash of a short or well-known text can be guessed: keep the file as private as which texts were run.)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.model import Remark
from moeplan.core.routing_capture import CapturedPrompt, CaptureHeader
from moeplan.core.routing_profile import Provenance
from moeplan.measure.interrupts import held_back
from moeplan.routing.profiling import written
from moeplan.routing.prompts import SHIPPED, Prompt, prompt_set, prompts
from moeplan.routing.result import CAPTURED_SCHEMA, Captured
from moeplan.sources.routing_files import CaptureWriter, read_routing
from moeplan.sources.routing_files.captures import MOST_PROBLEM_LETTERS
from moeplan.version import __version__

if TYPE_CHECKING:
    from moeplan.measure.local_model import LocalModel

TOOL, ENGINE = "moeplan", "transformers"
MAX_NEW_TOKENS = 64
MOST_PROMPT_TOKENS = 16_384
"""Longer prompts are not run unless asked for: attention of a whole prompt takes memory."""

SHIPPED_NAME = "moeplan's prompts"

_LISTED = 20

Progress = Callable[[int, int, str], None]
"""Told how many prompts are done, how many there are, and the class of the one that runs now."""


def capture(
    model: str | Path,
    prompt_file: str | Path | None = None,
    *,
    out: str | Path,
    device: str | None = None,
    dtype: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    max_prompt_tokens: int = MOST_PROMPT_TOKENS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Captured:
    """Run the model in the folder `model` on each prompt and up to `max_new_tokens` more; write choices to `out` (.jsonl).

    `prompt_file` None takes the set that ships. A file that is there is taken up where it is of the same model, prompts,
    device, dtype and seed: prompts in it are not run again. Prompts that are empty, too long or not UTF-8, and those that
    fail, stay in the file with their problem, and the run goes on. Ctrl-C ends it with what is done.

    Raises InputError for a folder without a model of experts, for prompts that cannot be read and for a file of another
    capture; UnknownError where torch or transformers is missing or the device cannot hold the model.
    """
    folder, path = Path(model).expanduser(), Path(out).expanduser()
    _check(model, folder, path, max_new_tokens, max_prompt_tokens)
    source = SHIPPED if prompt_file is None else Path(prompt_file).expanduser()
    asked = prompt_set(source)
    running = _opened(folder, device, dtype, seed)
    provenance = Provenance(
        tool=TOOL,
        tool_version=__version__,
        engine=ENGINE,
        engine_version=running.engine_version,
        device=running.device_name,
        dtype=running.dtype,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        prompts=asked.sha256,
        seed=seed,
    )
    header = CaptureHeader(running.name, running.revision, running.layers, provenance)
    done = _Done()
    with CaptureWriter(path, header) as file:
        try:
            with running:
                for place, prompt in enumerate(prompts(source)):
                    if progress is not None:
                        progress(place, asked.lines, prompt.prompt_class)
                    _one(file, done, running, prompt, max_new_tokens, max_prompt_tokens, seed)
        except KeyboardInterrupt:
            done.complete = False
        some = bool(file.done)
    where = SHIPPED_NAME if prompt_file is None else str(prompt_file)
    return Captured(
        schema=CAPTURED_SCHEMA,
        written=written(str(out), "capture", read_routing(path)) if some else None,
        prompts=asked.lines,
        captured=done.captured,
        known=done.known,
        failed=done.failed,
        tokens=done.tokens,
        complete=done.complete,
        notes=done.remarks(where),
    )


class _Done:
    """What a run has done so far."""

    def __init__(self) -> None:
        self.captured = self.known = self.failed = self.tokens = 0
        self.complete = True
        self.problems: list[str] = []
        self.seen: set[bytes] = set()

    def remarks(self, where: str) -> tuple[Remark, ...]:
        """Prompts that failed, the first ones by name."""
        named = [Remark("prompt-failed", "warning", each, where) for each in self.problems[:_LISTED]]
        if self.failed > _LISTED:
            named.append(Remark("prompt-failed", "warning", f"{self.failed - _LISTED} more prompts failed", where))
        return tuple(named)


def _one(
    file: CaptureWriter,
    done: _Done,
    running: LocalModel,
    prompt: Prompt,
    max_new_tokens: int,
    max_prompt_tokens: int,
    seed: int,
) -> None:
    """Run one prompt, unless it is known, and add its line."""
    key = bytes.fromhex(prompt.sha256)
    if prompt.sha256 in file.done or key in done.seen:
        done.known += 1
        return
    done.seen.add(key)
    made = CapturedPrompt(prompt.sha256, prompt.prompt_class, 0, 0, problem=prompt.problem)
    if prompt.problem is None:
        made = _run(running, prompt, max_new_tokens, max_prompt_tokens, seed)
    if made.problem is None:
        try:
            file.append(made)
        except ValueError as error:  # more than a line may hold, or ids that no expert has
            made = CapturedPrompt(prompt.sha256, prompt.prompt_class, 0, 0, problem=str(error))
        else:
            done.captured += 1
            done.tokens += made.prefill_tokens + made.decode_tokens
            return
    assert made.problem is not None
    done.failed += 1
    done.problems.append(f"{prompt.prompt_class} {prompt.sha256[:12]}: {made.problem}")
    if file.failed.get(prompt.sha256) != made.problem[:MOST_PROBLEM_LETTERS]:
        file.append(made)


def _run(running: LocalModel, prompt: Prompt, max_new_tokens: int, max_prompt_tokens: int, seed: int) -> CapturedPrompt:
    from moeplan.measure.local_model import PromptError

    try:
        ran = running.run(prompt.text, max_new_tokens=max_new_tokens, max_prompt_tokens=max_prompt_tokens, seed=seed)
    except PromptError as error:
        return CapturedPrompt(prompt.sha256, prompt.prompt_class, 0, 0, problem=str(error))
    chosen = ran.choices
    counts = (ran.prefill_tokens, ran.decode_tokens)
    return CapturedPrompt(prompt.sha256, prompt.prompt_class, *counts, chosen.experts, chosen.margins, chosen.dropped)


def _check(model: str | Path, folder: Path, path: Path, max_new_tokens: int, max_prompt_tokens: int) -> None:
    """Raises InputError for what cannot be right, before torch is loaded."""
    if not folder.is_dir():
        raise InputError(
            f"{model} is no folder: a capture runs a checkpoint that is on this machine",
            hint="name the folder of config.json, tokenizer and safetensors; `hf download ORG/NAME` makes one",
        )
    if path.suffix.lower() != ".jsonl":
        raise InputError(f"--output {path}: a capture is a file that ends in .jsonl", hint=f"name it {path.stem}.jsonl")
    if max_new_tokens < 0 or max_prompt_tokens < 1:
        raise InputError(
            f"{max_new_tokens} new tokens after prompts of up to {max_prompt_tokens} cannot be run",
            hint="ask for 0 new tokens or more, and for prompts of 1 token or more",
        )


def _opened(folder: Path, device: str | None, dtype: str | None, seed: int) -> LocalModel:
    """The model, loaded and probed."""
    if find_spec("torch") is None:
        raise UnknownError("torch is not installed, so no model can be run", hint="pip install 'moeplan[capture]'")
    with held_back():
        from moeplan.measure.local_model import LocalModel
        from moeplan.measure.session import open_session

    return LocalModel(folder, open_session(device, seed), dtype)
