"""A model's config.json and its quantisation sidecar, from a folder or a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moeplan.core.errors import ConfigError, InputError

CONFIG = "config.json"
SIDECAR = "hf_quant_config.json"
MOST_BYTES = 16 * 2**20
"""The largest published config is under 1 MiB."""


def read_json_object(path: Path, where: str | None = None) -> dict[str, Any]:
    """The JSON object in a file, which messages call `where`. Raises InputError or ConfigError when there is none."""
    where = where or str(path)
    way_out = f"give a model's {CONFIG}, its folder, or a name from `moeplan models`"
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ConfigError(f"{where}: {size / 2**20:,.0f} MiB is no model config", hint=way_out)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)  # a pipe or a device has no size
    except FileNotFoundError:
        raise InputError(f"{where}: no such file", hint=way_out) from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error})", hint=way_out) from None
    except ValueError:  # a null byte
        raise InputError(f"{where!r} is no path", hint=way_out) from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{where}: more than {MOST_BYTES // 2**20} MiB is no model config", hint=way_out)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: is not UTF-8 text", hint=way_out) from None
    return parse_json_object(text, where)


def parse_json_object(text: str, where: str) -> dict[str, Any]:
    """The JSON object in `text`. Raises ConfigError with line and column when it is broken."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: broken JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            hint="correct the JSON, or download the file again",
        ) from None
    except (RecursionError, ValueError):
        raise ConfigError(
            f"{where}: JSON nested too deeply or with absurd numbers", hint="give a model's config.json"
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{where}: holds a JSON {type(data).__name__}, not an object", hint="give a model's config.json"
        )
    return data


def read_config_folder(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None, Path]:
    """Config, sidecar (or None) and the config's path, from a model folder or a config file."""
    try:
        is_folder = path.is_dir()
        config_path = path / CONFIG if is_folder else path
        sidecar_path = config_path.parent / SIDECAR
        holds_config = config_path.exists()
        holds_sidecar = sidecar_path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})", hint="check its permissions") from None
    if is_folder and not holds_config:
        raise InputError(
            f"{path}: the folder holds no {CONFIG}", hint=f"give the folder of a model, or the path of its {CONFIG}"
        )
    # A config under another name does not own the sidecar of its folder.
    own = config_path.name == CONFIG and holds_sidecar
    return read_json_object(config_path), read_json_object(sidecar_path) if own else None, config_path
