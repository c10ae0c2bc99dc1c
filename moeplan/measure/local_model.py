"""A checkpoint on this machine's disk, run on prompts by transformers while its routers are watched.

Nothing is downloaded and no remote code is run. A prompt is one sequence: what other prompts say takes none of its places
in an expert with a capacity, and no padding is routed.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch  # noqa: TID253

from moeplan.core.errors import InputError, UnknownError
from moeplan.measure.model_build import load_transformers
from moeplan.measure.routing_hooks import PROBE_TOKENS, Choices, RoutersNotFoundError, RoutingHooks
from moeplan.measure.session import NotMeasuredError, Session, reason

_SNAPSHOT = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]([0-9a-f]{40})[/\\]?$")
_MOST_LETTERS_A_TOKEN = 64
"""Longer texts are refused before they are cut into tokens, which takes long."""

_QUOTED_LETTERS = 12
"""In a row, from a prompt's text, that an error's message may not have."""


class PromptError(Exception):
    """Why a prompt gives no choices, in words for the user."""


class Ran(NamedTuple):
    """What became of one prompt."""

    prefill_tokens: int
    decode_tokens: int
    choices: Choices


class LocalModel:
    """The model of a folder with its tokenizer, on the device of a session; use it as a context.

    `dtype` None is that of the checkpoint. Raises InputError for a folder that holds no such model, for a dense model and one
    whose routers cannot be read (with the modules that were looked at), and UnknownError where transformers is missing or
    the model does not fit.
    """

    def __init__(self, folder: Path, session: Session, dtype: str | None = None) -> None:
        try:
            self._transformers = load_transformers()
        except NotMeasuredError as error:
            raise UnknownError(str(error), hint="pip install 'moeplan[capture]'") from error
        self._transformers.utils.logging.disable_progress_bar()
        self._session = session
        self.name, self.revision = _named(folder)
        self._config = self._loaded(folder, "config", self._transformers.AutoConfig)
        self._tokenizer = self._loaded(folder, "tokenizer", self._transformers.AutoTokenizer)
        _check_size(folder, session)
        wanted = "auto" if dtype is None else session.torch_dtype(dtype)
        model = self._loaded(folder, "model", self._class(), dtype=wanted)
        try:
            self._model = model.eval().to(session.torch_device)
        except RuntimeError as error:
            raise UnknownError(
                f"{folder}: {reason(error)}", hint="--device cpu, or a device with more memory"
            ) from error
        self.dtype = str(self._model.dtype).removeprefix("torch.")
        self.device_name = session.device.name
        self.engine_version = str(self._transformers.__version__)
        try:
            self._hooks = RoutingHooks(self._model, self._probe, self._probe_tokens())
        except RoutersNotFoundError as error:
            raise InputError(str(error), hint="capture a model with experts that transformers routes") from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise UnknownError(
                f"{folder}: the model does not run on {session.torch_device}: {reason(error)}",
                hint="another --device or --dtype; see that transformers itself runs it",
            ) from error
        self.layers = self._hooks.layers

    @property
    def most_tokens(self) -> int | None:
        """Tokens of a sequence, prompt and answer; None where neither config nor tokenizer states a limit."""
        text = self._config.get_text_config()
        stated = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len")]
        stated.append(getattr(self._tokenizer, "model_max_length", None))
        return min((each for each in stated if isinstance(each, int) and 0 < each < 1 << 40), default=None)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._hooks.__exit__(None, None, None)

    def run(self, text: str, *, max_new_tokens: int, max_prompt_tokens: int | None, seed: int) -> Ran:
        """The choices of a prompt and of up to `max_new_tokens` that are sampled after it, fewer where the model ends.

        What is sampled depends on the seed and the text alone. A chat template is used where the tokenizer has one. For an
        encoder-decoder model the prompt is what the encoder reads. Raises PromptError where there is nothing to run, more
        than the model takes, or where running it failed.
        """
        try:
            ids = self._ids(text, max_new_tokens, max_prompt_tokens)
            self._generate(ids, max_new_tokens, zlib.crc32(text.encode(), seed))
            choices = self._hooks.take()
        except PromptError:
            raise
        except Exception as error:
            self._hooks.forget()
            self._session.release()
            raise PromptError(reason_without(text, error)) from error
        prompt = int(ids.shape[1])
        if choices.tokens < prompt:
            raise PromptError(f"its routers saw {choices.tokens} of {prompt} tokens")
        return Ran(prompt, choices.tokens - prompt, choices)

    def _ids(self, text: str, max_new_tokens: int, max_prompt_tokens: int | None) -> torch.Tensor:
        limits = [max_prompt_tokens] if max_prompt_tokens is not None else []
        if self.most_tokens is not None:
            limits.append(self.most_tokens - (0 if self._config.is_encoder_decoder else max_new_tokens))
        most = min(limits, default=None)
        if most is not None and len(text) > most * _MOST_LETTERS_A_TOKEN:
            raise PromptError(f"too long: {len(text)} letters, where {most} tokens may be")
        if getattr(self._tokenizer, "chat_template", None):
            talk = [{"role": "user", "content": text}]
            ids = self._tokenizer.apply_chat_template(
                talk, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
        else:
            ids = self._tokenizer(text, return_tensors="pt")["input_ids"]
        if not ids.shape[1]:
            raise PromptError("empty: its text has no tokens")
        if most is not None and ids.shape[1] > most:
            raise PromptError(f"too long: {ids.shape[1]} tokens, where {most} may be")
        return ids.long().to(self._session.torch_device)

    def _generate(self, ids: torch.Tensor, max_new_tokens: int, seed: int) -> None:
        """The last token that is sampled is never run: one more is asked for than shall be."""
        settings = self._model.generation_config
        end = settings.eos_token_id
        padding = (
            settings.pad_token_id if settings.pad_token_id is not None else end[0] if isinstance(end, list) else end
        )
        device = self._session.torch_device
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens + 1,
                do_sample=True,
                num_beams=1,
                use_cache=True,
                disable_compile=True,
                pad_token_id=padding,
            )

    def _probe_tokens(self) -> int:
        return min(PROBE_TOKENS, self.most_tokens or PROBE_TOKENS)

    def _probe(self) -> None:
        vocabulary = self._model.get_input_embeddings().num_embeddings
        ids = torch.randint(
            vocabulary,
            (1, self._probe_tokens()),
            device=self._session.torch_device,
            generator=self._session.generator("probe"),
        )
        more = {"decoder_input_ids": ids} if self._config.is_encoder_decoder else {}
        self._model(input_ids=ids, **more)

    def _class(self) -> Any:
        """The library's class for this config: one that generates text."""
        library = self._transformers
        if self._config.is_encoder_decoder:
            return library.AutoModelForSeq2SeqLM
        causal = type(self._config) in library.MODEL_FOR_CAUSAL_LM_MAPPING
        return library.AutoModelForCausalLM if causal else library.AutoModelForImageTextToText

    def _loaded(self, folder: Path, what: str, loader: Any, **settings: Any) -> Any:
        """What a loader of the library makes of the folder. Whatever it raises says why the folder cannot be used."""
        try:
            return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **settings)
        except Exception as error:
            raise InputError(
                f"{folder}: no {what} that transformers {self._transformers.__version__} can load: {reason(error)}",
                hint="name a folder with config.json, tokenizer and safetensors of a model that transformers knows",
            ) from error


def reason_without(text: str, error: BaseException) -> str:
    """Why a prompt failed, for a file that holds no texts: the error's name alone where its message quotes the prompt."""
    said, bare = reason(error), text.strip()
    quoted = 4 <= len(bare) < _QUOTED_LETTERS and bare in said
    pieces = (said[first : first + _QUOTED_LETTERS] for first in range(len(said) - _QUOTED_LETTERS + 1))
    return type(error).__name__ if quoted or any(each in text for each in pieces) else said


def _named(folder: Path) -> tuple[str, str | None]:
    """The model's name and commit where the folder is one of the Hub's cache; else the folder's own name."""
    found = _SNAPSHOT.search(str(folder.absolute()))
    return (found[1].replace("--", "/", 1), found[2]) if found else (folder.resolve().name, None)


def _check_size(folder: Path, session: Session) -> None:
    shards = (path for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated"))
    num_bytes = sum(path.stat().st_size for path in shards)
    try:
        session.need(num_bytes)
    except NotMeasuredError as error:
        raise UnknownError(
            f"{folder}: the model {error}", hint="another --device, or a machine with more memory"
        ) from error
