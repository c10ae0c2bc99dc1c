"""Hardware profiles: one YAML file per accelerator, found by any of its names.

A question for one device reads the index of built-in names and that device's file, no more. Files in the user's
folders win over built-in ones, by file name or by alias; they have no index and are read when there are any.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.hardware import DenseRates, Hardware, Pcie, Price, ScaleUp
from moeplan.sources.file_writing import replace_file
from moeplan.sources.profile_folders import Origin, builtin_folder, profile_folders, user_folders
from moeplan.sources.strict_yaml import Block, load

SCHEMA = 1
INDEX = "index.json"
MOST_DEVICES = 65_536
MOST_CHARACTERS = 200

MAKERS = ("nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "intel", "habana", "google", "apple")
"""Words in front of a name that add nothing to it."""


class Listed(NamedTuple):
    """One profile of a listing; `problem` says why a broken one has no `hardware`."""

    profile: str
    hardware: Hardware | None
    path: Path
    origin: Origin
    problem: str | None = None


# Reading one file -------------------------------------------------------------------------------------------


def read_hardware(path: Path) -> Hardware:
    """The device of one profile file. InputError names the file and the key that is wrong."""
    top = load(path)
    if (schema := top.integer("schema")) not in (None, SCHEMA):
        raise top.wrong("schema", f"is {schema}, and this moeplan reads {SCHEMA}", "update moeplan")
    name = top.text("name")
    if name is None:
        raise top.wrong("name", "is missing", "give the device a name")
    memory = top.block("memory") or Block({}, top.where, "memory.")
    hardware = Hardware(
        profile=path.stem,
        name=name,
        vendor=top.text("vendor"),
        architecture=top.text("architecture"),
        compute_capability=_capability(top),
        memory_kind=memory.text("kind"),
        slice=top.flag("slice") or False,
        unified_memory=memory.flag("unified") or False,
        nominal_bytes=memory.integer("nominal_bytes", minimum=1),
        visible_bytes=memory.integer("visible_bytes", minimum=1),
        reported_bytes=memory.integer("usable_bytes", minimum=1),
        reported_low_bytes=memory.integer("usable_low_bytes", minimum=1),
        reported_high_bytes=memory.integer("usable_high_bytes", minimum=1),
        memory_bandwidth_bytes_per_s=top.integer("memory_bandwidth_bytes_per_s", minimum=1),
        l2_bytes=top.integer("l2_bytes", minimum=1),
        dense_flops_per_s=_dense_rates(top),
        scale_up=_scale_up(top),
        pcie=_pcie(top),
        power_w=top.integer("power_w", minimum=1),
        node_sizes=top.integers("node_sizes"),
        devices_per_card=top.integer("devices_per_card", minimum=1, maximum=64) or 1,
        host_bytes=top.integer("host_bytes", minimum=1),
        price=_price(top),
        aliases=top.texts("aliases"),
        shared_names=top.texts("shared_names"),
        default_for=top.texts("default_for"),
        sources=_sources(top),
        notes=top.texts("notes"),
        measured=top.mappings("measured"),
        path=str(path),
    )
    memory.done()
    top.done()
    _check_memory(memory, hardware)
    for each in hardware.default_for:
        if each not in hardware.shared_names:
            raise top.wrong("default_for", f"holds {each!r}, which `shared_names` lacks", "list it there too")
    return hardware


def _dense_rates(top: Block) -> DenseRates:
    rates = top.block("dense_flops_per_s")
    if rates is None:
        return DenseRates()
    found = DenseRates(*(rates.integer(kind, minimum=1) for kind in DenseRates._fields))
    rates.done()
    return found


def _links(top: Block) -> Block:
    return top.block("links") or Block({}, top.where, "links.")


def _scale_up(top: Block) -> ScaleUp | None:
    links = _links(top)
    link = links.block("scale_up")
    links.raw("pcie")
    links.done()
    if link is None:
        return None
    kind = link.text("kind")
    if kind is None:
        raise link.wrong("kind", "is missing", "name the link, for instance NVLink 4")
    found = ScaleUp(
        kind, link.integer("bytes_per_s_per_direction", minimum=1), link.integer("domain_devices", minimum=1)
    )
    link.done()
    return found


def _pcie(top: Block) -> Pcie | None:
    link = _links(top).block("pcie")
    if link is None:
        return None
    generation = link.integer("generation", minimum=3, maximum=6)
    lanes = link.integer("lanes", minimum=1, maximum=32)
    link.done()
    if generation is None or lanes is None:
        raise link.wrong("generation" if generation is None else "lanes", "is missing", "write both, or pcie: null")
    return Pcie(generation, lanes)


def _price(top: Block) -> Price | None:
    block = top.block("price_usd_per_hour")
    if block is None:
        return None
    low, high, as_of = block.number("low"), block.number("high"), block.text("as_of")
    sources = block.texts("sources")
    block.done()
    if low is None or high is None or as_of is None:
        key = "low" if low is None else "high" if high is None else "as_of"
        raise block.wrong(key, "is missing", "write low, high and as_of, or price_usd_per_hour: null")
    if low > high:
        raise block.wrong("low", f"is {low}, more than the high of {high}")
    return Price(low, high, as_of, sources)


def _sources(top: Block) -> Mapping[str, tuple[str, ...]]:
    block = top.block("sources")
    if block is None:
        return {}
    found = {key: block.texts(key) for key in ("specification", "memory_visible", "memory_usable")}
    block.done()
    return {key: texts for key, texts in found.items() if texts}


def _check_memory(memory: Block, hardware: Hardware) -> None:
    """Refuse sizes that contradict each other: low <= usable <= high, usable <= visible <= nominal."""
    rising: tuple[tuple[tuple[str, int | None], ...], ...] = (
        (
            ("usable_low_bytes", hardware.reported_low_bytes),
            ("usable_bytes", hardware.reported_bytes),
            ("usable_high_bytes", hardware.reported_high_bytes),
        ),
        (
            ("usable_bytes", hardware.reported_bytes),
            ("visible_bytes", hardware.visible_bytes),
            ("nominal_bytes", hardware.nominal_bytes),
        ),
    )
    for chain in rising:
        known = [(key, value) for key, value in chain if value is not None]
        for (small, less), (big, more) in pairwise(known):
            if less > more:
                raise memory.wrong(small, f"is {less}, more than `{big}`, {more}")
    if hardware.reported_bytes is None and (hardware.reported_low_bytes or hardware.reported_high_bytes):
        raise memory.wrong("usable_bytes", "is missing, and its band is given", "write all three or none")


# Names ------------------------------------------------------------------------------------------------------


def name_key(text: str) -> str:
    """A name without case, spaces, punctuation and the maker in front: "NVIDIA H100-SXM" is "h100sxm"."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    while len(words) > 1 and words[0] in MAKERS:
        del words[0]
    return "".join(words)


def _whole_key(text: str) -> str:
    """A name with its maker: GKE's "nvidia-tesla-a100" is one card, and "a100" is not."""
    return "".join(re.findall(r"[a-z0-9]+", text.lower()))


def _own_names(hardware: Hardware) -> list[str]:
    return [hardware.profile, hardware.name, *hardware.aliases]


def _own_keys(hardware: Hardware) -> list[str]:
    """Keys that mean this device alone: without the maker, unless that would be a shared name."""
    shared = set(map(name_key, hardware.shared_names))
    keys = [_whole_key(name) if name_key(name) in shared else name_key(name) for name in _own_names(hardware)]
    return list(dict.fromkeys(keys))


def build_index(folder: Path) -> dict[str, Any]:
    """What `index.json` of a folder must hold: name keys to profiles, and shared names to profiles, default first.

    InputError when two files claim one name, or a shared name has no single default.
    """
    names: dict[str, str] = {}
    shared: dict[str, list[str]] = {}
    defaults: dict[str, list[str]] = {}
    for path in _files(folder):
        hardware = read_hardware(path)
        for key in _own_keys(hardware):
            if key in names:
                raise InputError(
                    f"{path}: the name {key!r} belongs to {names[key]} too",
                    hint="list it under shared_names in both files",
                )
            names[key] = path.stem
        for name in hardware.shared_names:
            shared.setdefault(name_key(name), []).append(path.stem)
        for name in hardware.default_for:
            defaults.setdefault(name_key(name), []).append(path.stem)
    for key, profiles in shared.items():
        if len(defaults.get(key, ())) != 1 or key in names:
            raise InputError(
                f"{folder}: the shared name {key!r} needs one default among {', '.join(profiles)} and no owner",
                hint="list it under default_for in one of them",
            )
        profiles.remove(defaults[key][0])
        profiles.insert(0, defaults[key][0])
    return {"schema": SCHEMA, "names": dict(sorted(names.items())), "shared": dict(sorted(shared.items()))}


def write_index(folder: Path | None = None) -> Path:
    """Write `index.json` of a folder of built-in profiles; to be run after a profile was added or renamed."""
    folder = folder or builtin_folder("hardware")
    path = folder / INDEX
    text = json.dumps(build_index(folder), indent=1) + "\n"
    replace_file(path, text.encode())
    return path


def _read_index() -> Mapping[str, Any]:
    path = builtin_folder("hardware") / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the index of profiles is broken", hint="reinstall moeplan") from error
    return index if isinstance(index, dict) else {}


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}", hint="check its permissions") from error


# Finding ----------------------------------------------------------------------------------------------------


def _capability(top: Block) -> str | None:
    """CUDA's compute capability, which other makers' devices do not have."""
    text = top.text("compute_capability")
    if text is not None and not re.fullmatch(r"[0-9]{1,2}\.[0-9]", text):
        raise top.wrong(
            "compute_capability", f"is {text!r}", 'write CUDA\'s number in quotes ("9.0"), or null for other makers'
        )
    return text


def find_hardware(text: str, extra_dirs: Sequence[str | Path] = ()) -> tuple[Hardware, int | None]:
    """The device that `text` names, and how many where it says so: `h100`, `H100:4`, `4xH100`, `8x h200`, a file.

    `extra_dirs` are folders given with `--profiles`. A name that several devices answer to is read as one documented
    default; `Hardware.reading` then says which and what the others are. InputError when the name is not known (with
    the nearest that are), when a count is zero, absurd or given twice, or when the file asked for is broken.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"a GPU name of {len(text)} characters is none", hint="see `moeplan gpus` for the names")
    for name, counts in [(text, []), *_split_counts(text)]:
        if name.endswith((".yaml", ".yml")) and Path(name).is_file():
            return read_hardware(Path(name)), _one_count(text, counts) if counts else None
    catalogue = _Catalogue(extra_dirs)
    whole = None if ":" in text else catalogue.find(text)
    if whole is not None:
        return whole, None
    for name, counts in _split_counts(text):
        found = catalogue.find(name)
        if found is not None:
            return _with_cards(found, text), _one_count(text, counts)
    raise catalogue.unknown(text)


def _split_counts(text: str) -> list[tuple[str, list[str]]]:
    """The ways to read counts around a name: "2 x RTX 4090" may be 2 of one name, or 4090 of another."""
    name = text.strip()
    ways: list[tuple[str, list[str]]] = []
    before = re.fullmatch(r"([-+]?[0-9][0-9_.,]*)\s*[x\u00d7*]\s*(.+)|([0-9]+)\s+(.+)", name, re.IGNORECASE)
    if before:
        ways.append((before[2] or before[4], [before[1] or before[3]]))
    for rest, counts in [*ways, (name, [])]:
        after = re.fullmatch(r"(.*?)\s*(?::([^:]*)|[x\u00d7*]\s*([0-9]+))", rest, re.IGNORECASE)
        if after:
            ways.append((after[1], [*counts, after[3] if after[2] is None else after[2]]))
    return [(rest, counts) for rest, counts in ways if ":" not in rest]


def _one_count(text: str, counts: Sequence[str]) -> int:
    numbers = set()
    for count in counts:
        if not re.fullmatch(r"[0-9]+", count.strip()):
            raise InputError(f"{text!r}: {count!r} is no number of devices", hint="write, for instance, h100:4")
        number = int(count)
        if not 1 <= number <= MOST_DEVICES:
            raise InputError(
                f"{text!r}: the number of devices must be between 1 and {MOST_DEVICES}",
                hint="write, for instance, h100:4",
            )
        numbers.add(number)
    if len(numbers) > 1:
        raise InputError(f"{text!r} gives the number of devices twice, and not the same", hint="write it once")
    return numbers.pop()


def _with_cards(hardware: Hardware, text: str) -> Hardware:
    """Say what a count counts where a card is several devices."""
    if hardware.devices_per_card == 1:
        return hardware
    note = f"{text!r} counts devices, and a card holds {hardware.devices_per_card} of them"
    return hardware._replace(reading=(*hardware.reading, note))


class _Catalogue:
    """The names of one question; nothing is read before it is needed."""

    def __init__(self, extra_dirs: Sequence[str | Path]) -> None:
        self.folders = user_folders("hardware", extra_dirs)
        self.index: Mapping[str, Any] | None = None
        self.own: list[tuple[Path, Hardware | None]] | None = None

    def find(self, text: str) -> Hardware | None:
        """The device of that name, or None where nobody has it."""
        key = name_key(text)
        if not key:
            return None
        own = self._user_file(key)
        if own is not None:
            return own
        if self.index is None:
            self.index = _read_index()
        others: list[str] = []
        profile = self.index["names"].get(_whole_key(text)) or self.index["names"].get(key)
        if profile is None and key in self.index["shared"]:
            profile, *others = self.index["shared"][key]
        if profile is None:
            return None
        replaced = self._user_file(name_key(profile)) if self.folders else None
        found = replaced or read_hardware(builtin_folder("hardware") / f"{profile}.yaml")
        if others:
            note = f"{text.strip()!r} is read as {found.name} ({profile}); it could also be {', '.join(others)}"
            found = found._replace(reading=(note, *found.reading))
        return found

    def _user_file(self, key: str) -> Hardware | None:
        """The user's device of that name: by file name first, then by alias. A broken file counts only by file name."""
        for path in self._user_paths():
            if name_key(path.stem) == key:
                return _noted(read_hardware(path))
        for _path, hardware in self._user_hardware():
            if hardware is not None and key in [*_own_keys(hardware), *map(name_key, hardware.default_for)]:
                return _noted(hardware)
        return None

    def _user_paths(self) -> list[Path]:
        return [path for folder in self.folders for path in _files(folder.path)]

    def _user_hardware(self) -> list[tuple[Path, Hardware | None]]:
        if self.own is None:
            self.own = [(path, _or_none(path)) for path in self._user_paths()]
        return self.own

    def unknown(self, text: str) -> InputError:
        """The error for a name that nobody has, with the nearest."""
        import difflib

        index = self.index or _read_index()
        keys = {**index["names"], **{key: profiles[0] for key, profiles in index["shared"].items()}}
        for path, hardware in self._user_hardware():
            for each in _own_names(hardware) if hardware else [path.stem]:
                keys[name_key(each)] = path.stem
        key = name_key(text)
        near = difflib.get_close_matches(key, keys, n=6, cutoff=0.6)
        near = near or [each for each in keys if key and key in each]
        profiles = list(dict.fromkeys(keys[key] for key in near))[:3]
        hint = f"did you mean {' or '.join(profiles)}? " if profiles else ""
        return InputError(f"unknown GPU {text!r}", hint=f"{hint}`moeplan gpus` lists the names")


def _noted(hardware: Hardware) -> Hardware:
    """Say that a file of the user's was read, and what it stands in for."""
    builtin = builtin_folder("hardware") / f"{hardware.profile}.yaml"
    replaces = ", which replaces the built-in profile" if builtin.is_file() else ""
    note = f"{hardware.name} is read from {hardware.path}{replaces}"
    return hardware._replace(reading=(note, *hardware.reading))


def _or_none(path: Path) -> Hardware | None:
    try:
        return read_hardware(path)
    except InputError:
        return None


def list_hardware(extra_dirs: Sequence[str | Path] = ()) -> list[Listed]:
    """Every profile by file name, the user's in place of built-in ones; broken files with their problem."""
    listed: dict[str, Listed] = {}
    for folder, origin in profile_folders("hardware", extra_dirs):
        for path in _files(folder):
            if path.stem in listed:
                continue
            try:
                listed[path.stem] = Listed(path.stem, read_hardware(path), path, origin)
            except InputError as error:
                listed[path.stem] = Listed(path.stem, None, path, origin, error.message)
    return [listed[profile] for profile in sorted(listed)]
