"""Which files of a folder or repository are one checkpoint: known from their names and from the index, if there is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.sources.config_files import parse_json_object

INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
MOST_INDEX_BYTES = 256 * 2**20
"""An index takes about 110 bytes per tensor; 200,000 tensors are published."""
DOWNLOAD_AGAIN = "download it again; or give the model's config.json alone, to compute from the config"

_SUFFIX = ".safetensors"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?P<variant>\.\w+)?")
_ADAPTER = re.compile(r"(adapter_model.*\.(safetensors|bin)|adapters\.safetensors)")
_PICKLED = re.compile(r"(pytorch_model.*\.bin|consolidated.*\.pth|model.*\.(bin|pth|pt))")
# What trainers, diffusion pipelines and calibration leave beside a model.
_NO_MODEL = re.compile(
    r"(optimizer|scheduler|training_args|rng_state|random_states|exp_avg|imatrix|diffusion_pytorch_model|pytorch_lora_weights)"
)
# `original` holds the maker's own layout of the same weights; `2_Dense` is a module of sentence-transformers.
_NO_MODEL_FOLDER = re.compile(
    r"(\..*|original|\d+_[A-Z]\w*|vae.*|unet|transformer(_\d+)?|prior|(text|image)_encoder.*|safety_checker|controlnet.*|scheduler)"
)
_SHOWN = 5


Severity = Literal["info", "warning"]


class ChosenFiles(NamedTuple):
    """The files of one checkpoint, and what lies beside it."""

    files: tuple[str, ...]
    """In the order of their numbers; empty where no set of safetensors files is the model (`remarks` tell why)."""
    remarks: tuple[Remark, ...] = ()
    """Codes: `other-checkpoints`, `index-disagrees`, `index-without-shards`, `checkpoint-ambiguous`, `in-subfolder`,
    `adapter-left-out`, `bin-only`, `no-model-files`, `diffusion-pipeline`."""
    alternatives: tuple[tuple[str, ...], ...] = ()
    """Other sets of files that could be counted instead."""


class _Candidate(NamedTuple):
    """A single file, or shards that say of themselves that they belong together."""

    folder: str
    stem: str
    """`model`, `model.fp16`, `consolidated`."""
    total: int | None
    """How many shards there are; None for a single file."""
    files: tuple[str, ...]
    numbers: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """Which comes first: the standard name, its variants, names of older tools, Mistral's own layout, anything."""
        for rank, stem in enumerate(("model", "model.*", "pytorch_model*", "consolidated*")):
            if self.stem == stem or (stem.endswith("*") and self.stem.startswith(stem[:-1])):
                return rank
        return 4

    @property
    def is_complete(self) -> bool:
        """True when all shards are there."""
        return self.total is None or (len(self.files) == self.total and not self._lacking())

    @property
    def label(self) -> str:
        """Its files in few words."""
        more = len(self.files) - 1
        return f"{self.files[0]} and {more} more" if more else self.files[0]

    def fault(self) -> str:
        """Why it is not complete."""
        found = _SHARD.fullmatch(self.files[0].removesuffix(_SUFFIX))
        lacking = self._lacking()
        if not lacking or found is None:
            return f"{len(self.files)} files claim to be its {self.total} shards"
        num_missing = (self.total or 0) - len(set(self.numbers) - set(lacking))
        width = len(found["number"])
        named = [
            f"{found['stem']}-{number:0{width}d}-of-{found['total']}{found['variant'] or ''}{_SUFFIX}"
            for number in lacking[:_SHOWN]
        ]
        more = num_missing - len(named)
        return (
            f"{', '.join(named)}{f' and {more} more' if more > 0 else ''} {'is' if num_missing == 1 else 'are'} missing"
        )

    def _lacking(self) -> list[int]:
        numbers = set(self.numbers)
        first = 0 if 0 in numbers else 1
        # A hostile name states any total: never walk further than shards can explain.
        upto = min(first + (self.total or 0), first + len(numbers) + _SHOWN + 1)
        return [number for number in range(first, upto) if number not in numbers]


def index_file(names: Sequence[str]) -> str | None:
    """Which of `names` is the index to read for `choose_files`; None where there is none.

    The standard name first; another one (`consolidated.safetensors.index.json`) only where it is the only index and no
    checkpoint has the standard name.
    """
    if INDEX in names:
        return INDEX
    others = [name for name in names if name.endswith(f"{_SUFFIX}.index.json") and "/" not in name]
    if len(others) != 1 or any(made.rank == 0 and not made.folder for made in _candidates(names)):
        return None
    return others[0]


def parse_index(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object of an index file. Raises InputError when it is none; `choose_files` checks what it lists."""
    if len(data) > MOST_INDEX_BYTES:
        raise InputError(f"{where}: more than {MOST_INDEX_BYTES // 2**20} MiB is no index", hint=DOWNLOAD_AGAIN)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: at byte {error.start:,}: is not UTF-8 text", hint=DOWNLOAD_AGAIN) from None
    return parse_json_object(text, where)


def is_adapter(name: str) -> bool:
    """True for a file name that PEFT or MLX give to an adapter's weights."""
    return _ADAPTER.fullmatch(name.rpartition("/")[2]) is not None


def shard_total(name: str) -> int | None:
    """Of how many shards a file name says that it is one; None for a single file."""
    found = _SHARD.fullmatch(name.removesuffix(_SUFFIX))
    return _number(found["total"]) if found else None


def weight_map(index: Mapping[str, Any], where: str) -> Mapping[str, str]:
    """Tensor name to file name, as the index lists them. Raises InputError where it lists none, or files outside."""
    listed = index.get("weight_map")
    if not isinstance(listed, Mapping) or not listed:
        raise InputError(f"{where}: the index has no weight_map that names files", hint=DOWNLOAD_AGAIN)
    for name in dict.fromkeys(made if isinstance(made, str) else repr(made) for made in listed.values()):
        steps = name.split("/")
        if not name.endswith(_SUFFIX) or "\\" in name or "\0" in name or not {"", ".", ".."}.isdisjoint(steps):
            raise InputError(
                f"{where}: the index names {name[:80]!r}, which is no safetensors file beside it", hint=DOWNLOAD_AGAIN
            )
    return listed


def choose_files(
    names: Sequence[str],
    index: Mapping[str, Any] | None,
    *,
    where: str = "the checkpoint",
    adapter_config: Mapping[str, Any] | None = None,
) -> ChosenFiles:
    """Choose the safetensors files that are one checkpoint, among the file names (`/` between folders) of a folder.

    `index` is the content of `index_file(names)`, `adapter_config` that of adapter_config.json, where they exist.
    A complete index decides. Without one, `model.safetensors` comes first, then numbered shards of that name (all must
    be there), then variants (`model.fp16`), older names and `consolidated`; the others are named in a remark. Where no
    name tells which files belong together, none is chosen. Sources: transformers 5.23.0 modeling_utils
    `_get_resolved_checkpoint_files` for the order of names; vLLM 0.9.0 weight_utils
    `filter_duplicate_safetensors_files` for an index before `model.safetensors` (transformers loads the latter).

    Raises InputError for shards that are missing, an index that is broken, and an adapter without its model.
    """
    if "model_index.json" in names:  # a pipeline of diffusers: its models lie in folders
        names = [name for name in names if "/" not in name]
        if not _candidates(names):
            message = "the files are a diffusion pipeline: no language model was found at the top"
            return ChosenFiles((), (Remark("diffusion-pipeline", "warning", message, where),))
    candidates = _candidates(names)
    adapters = [name for name in names if is_adapter(name)]
    if not candidates:
        if adapters:
            raise _no_base_model(adapters[0], adapter_config, where)
        return ChosenFiles((), _without_safetensors(names, index, where))

    remarks: list[Remark] = []
    if any("/" not in name for name in adapters):
        message = f"{_listed(adapters)} is an adapter: its weights are not counted"
        remarks.append(Remark("adapter-left-out", "info", message, where))

    listed = None
    if index is not None:
        listed = _listed_files(index, names, candidates, where)
        if listed is None:
            message = f"the index names shards that are not there: {candidates[0].files[0]} is counted without it"
            remarks.append(Remark("index-disagrees", "warning", message, where))
    if listed is not None:
        chosen = set(listed)
        unlisted = [made for made in candidates if chosen.isdisjoint(made.files)]
        beside = [name for made in candidates if made not in unlisted for name in made.files if name not in chosen]
        if beside:
            message = f"the index leaves out {_listed(beside)}: not counted"
            remarks.append(Remark("index-disagrees", "warning", message, where))
        # An index says that its files are all: what is left over is another checkpoint. Libraries differ on a whole
        # `model.safetensors`, and on a part that the index forgot (SGLang's weight_utils adds `mtp.safetensors`).
        doubtful = any(made.rank in {0, 4} and not made.folder for made in unlisted)
        return _with_others(listed, unlisted, "warning" if doubtful else "info", remarks, where)

    top = [made for made in candidates if not made.folder] or candidates
    folders = {made.folder for made in top}
    best = min(top, key=lambda made: (made.rank, not made.is_complete, made.total is not None, made.stem))
    others = [made for made in candidates if made is not best]
    if len(folders) > 1 or (best.rank == 4 and any(made.folder == best.folder for made in others)):
        message = f"nothing tells which of these files are one checkpoint: {_listed(made.label for made in candidates)}"
        ambiguous = Remark("checkpoint-ambiguous", "warning", message, where)
        return ChosenFiles((), (*remarks, ambiguous), tuple(made.files for made in candidates))
    if not best.is_complete:
        raise InputError(f"{where}: the checkpoint is not complete: {best.fault()}", hint=DOWNLOAD_AGAIN)
    if best.folder:
        remarks.append(Remark("in-subfolder", "info", f"the checkpoint lies in the folder {best.folder}", where))
    # A second file of the same standing, or of a name that says nothing, may be what a user means, or a part.
    doubtful = any(made.folder == best.folder and made.rank in {best.rank, 4} for made in others)
    return _with_others(best.files, others, "warning" if doubtful else "info", remarks, where)


def _listed_files(
    index: Mapping[str, Any], names: Sequence[str], candidates: Sequence[_Candidate], where: str
) -> tuple[str, ...] | None:
    """Files of a complete index; None for an old one beside a whole `model.safetensors`."""
    listed = sorted(set(weight_map(index, where).values()), key=_by_number)
    present = set(names)
    missing = [name for name in listed if name not in present]
    if not missing:
        return tuple(listed)
    if len(missing) == len(listed) and f"model{_SUFFIX}" in candidates[0].files:
        return None
    raise InputError(
        f"{where}: the index names {_listed(missing)}, which is missing"
        if len(missing) == 1
        else f"{where}: {len(missing)} of the {len(listed)} shards that the index names are missing: {_listed(missing)}",
        hint=DOWNLOAD_AGAIN,
    )


def _with_others(
    files: tuple[str, ...], others: Sequence[_Candidate], severity: Severity, remarks: Iterable[Remark], where: str
) -> ChosenFiles:
    if not others:
        return ChosenFiles(files, tuple(remarks))
    counted = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else files[0]
    message = f"{counted} is counted; left out beside it: {_listed(made.label for made in others)}"
    remark = Remark("other-checkpoints", severity, message, where)
    return ChosenFiles(files, (*remarks, remark), tuple(made.files for made in others))


def _without_safetensors(names: Sequence[str], index: Mapping[str, Any] | None, where: str) -> tuple[Remark, ...]:
    if index is not None:
        message = "there is an index, but none of the shards that it names"
        return (Remark("index-without-shards", "warning", message, where),)
    others = [name for name in names if name.endswith(_SUFFIX)]
    if others:
        message = f"none of the safetensors files is a language model: {_listed(sorted(others))}"
        return (Remark("no-model-files", "warning", message, where),)
    pickled = [name for name in names if "/" not in name and _PICKLED.fullmatch(name)]
    if not pickled:
        return ()
    message = f"the weights are pickled ({_listed(sorted(pickled))}): such files have no header to read sizes from"
    return (Remark("bin-only", "warning", message, where),)


def _no_base_model(adapter: str, adapter_config: Mapping[str, Any] | None, where: str) -> InputError:
    base = None
    if adapter_config is not None:  # PEFT names the first, MLX the second
        base = adapter_config.get("base_model_name_or_path") or adapter_config.get("model")
    if isinstance(base, str):
        return InputError(f"{where}: {adapter} is an adapter of {base}, not a model", hint=f"give {base} instead")
    return InputError(
        f"{where}: {adapter} is an adapter, not a model, and names no base model", hint="give its base model instead"
    )


def _candidates(names: Sequence[str]) -> list[_Candidate]:
    """Sets of model files, best first."""
    sets: dict[tuple[str, str, int | None], list[tuple[int, str]]] = {}
    for name in names:
        *folders, base = name.split("/")
        if not base.endswith(_SUFFIX) or _NO_MODEL.match(base) or _ADAPTER.fullmatch(base):
            continue
        if any(_NO_MODEL_FOLDER.fullmatch(folder) for folder in folders):
            continue
        stem = base.removesuffix(_SUFFIX)
        total, number = None, 0
        if found := _SHARD.fullmatch(stem):
            number, total = _number(found["number"]), _number(found["total"])
            stem = found["stem"].removesuffix(_SUFFIX).rstrip("-") + (found["variant"] or "")
        sets.setdefault(("/".join(folders), stem, total), []).append((number, name))
    made = []
    for (folder, stem, total), members in sets.items():
        members.sort()
        numbers = tuple(number for number, _ in members) if total is not None else ()
        if total is None:  # names are unique, except where a caller repeats one
            made.append(_Candidate(folder, stem, None, (members[0][1],)))
        else:
            made.append(_Candidate(folder, stem, total, tuple(name for _, name in members), numbers))
    return sorted(made, key=lambda one: (one.folder != "", one.rank, one.total is not None, one.files))


def _number(digits: str) -> int:
    return int(digits[:18])  # longer ones are no count of files, and int() refuses very long ones


def _by_number(name: str) -> tuple[str, int, str]:
    found = _SHARD.fullmatch(name.removesuffix(_SUFFIX))
    return (found["stem"], _number(found["number"]), name) if found else (name, 0, name)


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    more = len(all_names) - _SHOWN
    return ", ".join(all_names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
