"""`moeplan.lock`: models as they were read once, so that a check in CI needs no network and finds the same every time.

A model's config stands in the file whole: shapes follow from it alone. Of the checkpoint's headers there are commit, sum
and total, to notice that the repository changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import ConfigError, InputError, UnknownError
from moeplan.core.model import Remark
from moeplan.sources.loaded import Asked, LoadedModel, loaded_model

SCHEMA = "moeplan.lock/1"
MOST_BYTES = 1 << 26


class Locked(NamedTuple):
    """One model of a lock file."""

    model: str
    """As deployments (or the policy's mapping) name it."""
    revision: str | None
    """As deployments state it."""
    id: str
    commit: str | None
    """None where the model was read from the catalogue or a folder."""
    source: str
    source_kind: str
    config_sha256: str
    headers_sha256: str | None
    """Of names, shapes and types of all tensors; None where no headers were read."""
    checkpoint_bytes: int | None
    """Of all tensors, by the headers."""
    config: Mapping[str, Any]
    sidecar: Mapping[str, Any] | None

    @property
    def is_as_locked(self) -> bool:
        """False where somebody changed the config by hand."""
        return self.config_sha256 == _sum([self.config, self.sidecar])


def locked(model: str, revision: str | None, loaded: LoadedModel) -> Locked:
    """A model as it is kept. Raises InputError for a GGUF file, which has no config to keep."""
    if loaded.config is None:
        raise InputError(
            f"{model}: a GGUF file has no config to lock",
            hint="check it without --locked, or leave its file out (`exclude` in the policy)",
        )
    checkpoint = loaded.checkpoint
    total = sum(tensor.num_bytes for tensor in checkpoint.tensors) if checkpoint is not None else None
    commit = loaded.revision if loaded.source_kind in ("config", "headers") else None
    return Locked(
        model=model,
        revision=revision,
        id=loaded.id,
        commit=commit,
        # Not the address of a mirror, nor whether it lay in a cache: the same on every machine.
        source=loaded.source if commit is None else f"hf://{loaded.id}@{commit}",
        source_kind=loaded.source_kind,
        config_sha256=_sum([loaded.config, loaded.sidecar]),
        headers_sha256=_headers_sum(loaded),
        checkpoint_bytes=total,
        config=loaded.config,
        sidecar=loaded.sidecar,
    )


def lock_text(models: Sequence[Locked]) -> str:
    """The lock file: models in order of their names, the same for the same models."""
    rows = [entry._asdict() for entry in sorted(models, key=lambda each: (each.model, each.revision or ""))]
    return json.dumps({"schema": SCHEMA, "models": rows}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_lock(path: Path, *, as_it_is: bool = False) -> tuple[Locked, ...]:
    """The models of a lock file. Raises InputError for one that is none, or that was changed by hand.

    With `as_it_is` rows that were changed by hand are handed on, to be told apart from those that belong there.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is larger than a lock file can be", hint="name another with --lock")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="make it with `moeplan lock`, and keep it in git") from None
    except OSError as error:
        told = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be read: {told}", hint="name the lock file with --lock") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no lock file: it is no JSON", hint=_ANEW) from None
    schema = content.get("schema") if isinstance(content, Mapping) else None
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith("moeplan.lock/"):
            raise InputError(f"{path} is a {schema}, and this moeplan reads {SCHEMA}", hint="update moeplan")
        raise InputError(f"{path} is no lock file of moeplan", hint=_ANEW)
    try:
        found = tuple(_row(row) for row in content["models"])
    except (KeyError, TypeError):
        raise InputError(f"{path}: not all of its models are as `moeplan lock` writes them", hint=_ANEW) from None
    for each in found:
        if not as_it_is and not each.is_as_locked:
            raise InputError(
                f"{path}: the config of {each.model} is not the one that was locked",
                hint="make it anew with `moeplan lock`; the file is not to be edited",
            )
    return found


_ANEW = "remove it, and make it anew with `moeplan lock`"
_TYPES: Mapping[str, tuple[type | None, ...]] = {
    "model": (str,), "revision": (str, None), "id": (str,), "commit": (str, None), "source": (str,), "source_kind": (str,),
    "config_sha256": (str,), "headers_sha256": (str, None), "checkpoint_bytes": (int, None), "config": (dict,),
    "sidecar": (dict, None),
}  # fmt: skip


def _row(row: Mapping[str, Any]) -> Locked:
    """One row of a lock file. Raises TypeError for one that is none."""
    entry = Locked(**row)
    for name, types in _TYPES.items():
        value = getattr(entry, name)
        if not any(value is None if each is None else type(value) is each for each in types):
            raise TypeError(name)
    return entry


class LockedModels:
    """A lock file as a place to read models from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_name = {(each.model, each.revision): each for each in read_lock(path)}

    def find(self, text: str, asked: Asked) -> LoadedModel:
        """The model as it was locked. Raises UnknownError for one that is not in the file."""
        entry = self.by_name.get((text, asked.revision))
        if entry is None:
            at = f" at revision {asked.revision}" if asked.revision is not None else ""
            raise UnknownError(
                f"{text}{at} is not in {self.path.name}", hint="run `moeplan lock` and commit the file that it writes"
            )
        told = f"{entry.id} is read from {self.path.name}"
        remarks = [Remark("locked", "info", f"{told}, at commit {entry.commit}" if entry.commit else told)]
        if entry.checkpoint_bytes is not None:
            remarks.append(
                Remark(
                    "headers-locked",
                    "info",
                    f"weights are derived from the config; headers: {entry.checkpoint_bytes:,} B",
                )
            )
        try:
            return loaded_model(
                entry.id,
                entry.commit,
                # A model of a path stays one.
                entry.source if entry.source == entry.model else self.path.name,
                "config",
                entry.config,
                entry.sidecar,
                entry.model,
                tuple(remarks),
            )
        except ConfigError as error:
            raise UnknownError(error.message, hint=error.hint) from None


def _sum(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _headers_sum(loaded: LoadedModel) -> str | None:
    if loaded.checkpoint is None:
        return None
    return _sum(sorted([tensor.name, tensor.dtype, list(tensor.shape)] for tensor in loaded.checkpoint.tensors))
