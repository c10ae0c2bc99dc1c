"""Configs from disk: what is read, and what each broken one is told."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from moeplan.core.errors import ConfigError, InputError
from moeplan.sources.config_files import MOST_BYTES, parse_json_object, read_config_folder, read_json_object

CONFIG = {"model_type": "mixtral", "hidden_size": 4096}
SIDECAR = {"quantization": {"quant_algo": "FP8"}}


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_folder_gives_config_and_sidecar(tmp_path: Path) -> None:
    path = written(tmp_path / "config.json", CONFIG)
    written(tmp_path / "hf_quant_config.json", SIDECAR)
    assert read_config_folder(tmp_path) == (CONFIG, SIDECAR, path)
    assert read_config_folder(path) == (CONFIG, SIDECAR, path)


def test_folder_without_sidecar_has_none(tmp_path: Path) -> None:
    path = written(tmp_path / "config.json", CONFIG)
    assert read_config_folder(tmp_path) == (CONFIG, None, path)


def test_config_under_another_name_does_not_take_the_sidecar_of_its_folder(tmp_path: Path) -> None:
    path = written(tmp_path / "other.json", CONFIG)
    written(tmp_path / "hf_quant_config.json", SIDECAR)
    assert read_config_folder(path) == (CONFIG, None, path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json: no such file") as raised:
        read_config_folder(tmp_path / "gone.json")
    assert raised.value.exit_code == 2
    assert "moeplan models" in raised.value.hint


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder holds no config\.json"):
        read_config_folder(tmp_path)


def test_config_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputError, match=r"config\.json: cannot be read \(Is a directory\)"):
        read_config_folder(tmp_path)


def test_path_through_a_file(tmp_path: Path) -> None:
    path = written(tmp_path / "config.json", CONFIG)
    with pytest.raises(InputError, match="cannot be read"):
        read_config_folder(path / "deeper")


def test_path_with_a_null_byte() -> None:
    with pytest.raises(InputError, match="is no path"):
        read_json_object(Path("config\0.json"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    written(folder / "config.json", CONFIG)
    folder.chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be read"):
            read_config_folder(folder)
    finally:
        folder.chmod(0o700)


def test_broken_json_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n  "hidden_size": 4096,\n  "num_experts": }', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json: broken JSON: .* at line 3, column 18"):
        read_config_folder(tmp_path)


def test_broken_sidecar_is_told_by_its_own_name(tmp_path: Path) -> None:
    written(tmp_path / "config.json", CONFIG)
    (tmp_path / "hf_quant_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"hf_quant_config\.json: broken JSON"):
        read_config_folder(tmp_path)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType"), ('"config"', "str")])
def test_json_without_an_object(text: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"here: holds a JSON {kind}, not an object"):
        parse_json_object(text, "here")


@pytest.mark.parametrize("text", ["", "   \n"])
def test_empty_file(text: str) -> None:
    with pytest.raises(ConfigError, match="broken JSON"):
        parse_json_object(text, "here")


@pytest.mark.parametrize(
    "text",
    ['{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a": ' + "9" * 10_000 + "}"],
    ids=["objects", "lists", "digits"],
)
def test_deep_nesting_and_absurd_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="nested too deeply or with absurd numbers"):
        parse_json_object(text, "here")


def test_infinity_is_read_because_published_configs_hold_it() -> None:
    assert parse_json_object('{"time_step_limit": [0.0, Infinity]}', "here") == {"time_step_limit": [0.0, float("inf")]}


def test_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode())
    assert read_json_object(path) == CONFIG


@pytest.mark.parametrize("data", [b'{"a": "\xff"}', '{"a": 1}'.encode("utf-16")], ids=["stray byte", "UTF-16"])
def test_other_encodings(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"config\.json: is not UTF-8 text"):
        read_json_object(path)


def test_large_file_is_refused_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)

    def opened(*_args: object, **_kwargs: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ConfigError, match=r"config\.json: 100 MiB is no model config"):
        read_json_object(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=written, args=(pipe, CONFIG), daemon=True)
    writer.start()
    assert read_json_object(pipe) == CONFIG
    writer.join(10)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_device_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"more than {MOST_BYTES // 2**20} MiB"):
        read_json_object(Path("/dev/zero"))


def test_messages_can_call_the_file_by_another_name(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^org/name config\.json: holds"):
        read_json_object(path, "org/name config.json")
