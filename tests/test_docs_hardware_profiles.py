"""`docs/hardware-profiles.md` names every key of a profile, and its example is read as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from moeplan.core.hardware import Hardware, usable
from moeplan.sources.hardware_profiles import find_hardware, read_hardware
from moeplan.sources.profile_folders import builtin_folder

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "hardware-profiles.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", TEXT, flags=re.MULTILINE))


def example() -> str:
    block = re.search(r"^```yaml\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1]


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all keys that hold a value and no further keys."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from keys(inner, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def read(tmp_path: Path) -> Hardware:
    (tmp_path / "hardware").mkdir()
    path = tmp_path / "hardware" / "e1.yaml"
    path.write_text(example(), encoding="utf-8")
    return read_hardware(path)


def test_the_example_has_every_documented_key_and_no_other() -> None:
    assert set(keys(yaml.safe_load(example()))) == DOCUMENTED


def test_every_key_of_the_built_in_profiles_is_documented() -> None:
    blocks = {"links.pcie", "links.scale_up", "price_usd_per_hour"}  # null where there is none
    for path in builtin_folder("hardware").glob("*.yaml"):
        assert set(keys(yaml.safe_load(path.read_text(encoding="utf-8")))) <= DOCUMENTED | blocks, path.name


def test_the_example_fills_every_field(tmp_path: Path) -> None:
    hardware = read(tmp_path)
    left_null = {"fp4"}
    empty = {name for name, value in hardware._asdict().items() if value is None or value in ((), {})}
    empty |= {name for name, value in hardware.dense_flops_per_s._asdict().items() if value is None}
    assert empty == left_null | {"measured", "reading"}


def test_the_example_is_found_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    written = read(tmp_path)
    for name in ("e1", "Example E1 80GB", "E"):
        hardware, count = find_hardware(f"2x{name}", (tmp_path,))
        assert (hardware.name, count) == (written.name, 2)
    memory = usable(written)
    assert memory is not None
    assert (memory.bytes, memory.low_bytes, memory.high_bytes) == (85029615043, 84922240861, 85136989225)
