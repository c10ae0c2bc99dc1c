"""GGUF files of a Hub repository: which there are, and reading one by ranges."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.units import GB
from moeplan.sources.hub.cache import HeaderCache
from moeplan.sources.hub.errors import WITHOUT_HUB, hub_host
from moeplan.sources.hub.requests import HubLine, check_names, forbidden_by, prepare_client, run

BLOCK_BYTES = 2**20
"""GGUF headers hold the tokenizer: some MB, of a length that only reading tells. At most one block of weights is read."""

_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_QUANT = re.compile(
    r"(?:^|[-_.])((?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|NVFP4\w*|BF16|F16|F32))(?=$|[-.])", re.IGNORECASE
)
_SHOWN = 12


class HubGguf(NamedTuple):
    """One model in GGUF, in one file or several parts."""

    file: str
    """The file, or the first of its parts: what `--file` takes."""
    quant: str | None
    """`Q4_K_M` as the file's name has it; None where it has none."""
    num_bytes: int | None
    """Of all parts; None where the Hub does not tell."""
    parts: tuple[str, ...]


def gguf_files(files: Mapping[str, int | None]) -> tuple[HubGguf, ...]:
    """The models among a repository's files, small ones first; vision projectors (`mmproj`) and importance matrices
    (`imatrix`) are none.
    """
    parts: dict[str, list[str]] = {}
    for file in sorted(files):
        stem, dot, suffix = file.rpartition(".")
        base = stem.rpartition("/")[2].lower()
        if not dot or suffix.lower() != "gguf" or "mmproj" in base or "imatrix" in base:
            continue
        parts.setdefault(_PART.sub("", stem), []).append(file)
    models = []
    for stem, held in parts.items():
        sizes = [files[file] for file in held]
        num_bytes = sum(size for size in sizes if size is not None) if None not in sizes else None
        found = _QUANT.findall(stem.rpartition("/")[2]) or _QUANT.findall(stem.rpartition("/")[0])
        models.append(HubGguf(held[0], found[-1].upper() if found else None, num_bytes, tuple(held)))
    return tuple(sorted(models, key=lambda model: (model.num_bytes or 0, model.file)))


def gguf_list(models: tuple[HubGguf, ...]) -> str:
    """The models in one line: `a-Q4_K_M.gguf (18.6 GB), ...`."""
    shown = [
        f"{model.file} ({', '.join(filter(None, (_unsaid_quant(model), _size(model.num_bytes)))) or 'size not known'})"
        for model in models[:_SHOWN]
    ]
    more = f", and {len(models) - _SHOWN} more" if len(models) > _SHOWN else ""
    return ", ".join(shown) + more


def _unsaid_quant(model: HubGguf) -> str | None:
    return model.quant if model.quant and model.quant not in model.file.rpartition("/")[2].upper() else None


def _size(num_bytes: int | None) -> str | None:
    if num_bytes is None:
        return None
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= GB / 10 else f"{num_bytes / 10**6:.1f} MB"


def hub_range_reader(
    name: str, commit: str, file: str, *, offline: bool = False, files: Mapping[str, int | None] | None = None
) -> tuple[Callable[[int, int], bytes], int]:
    """`read(first_byte, num_bytes)` for a file of a repository at a commit, and the bytes of the file.

    Reads whole blocks of BLOCK_BYTES, each once, and keeps them in moeplan's cache. `read` returns fewer bytes only at
    the end of the file.

    Raises InputError for a file that is not there, UnknownError when the Hub cannot be asked or does not say; `read`
    raises the same.
    """
    prepare_client()
    host = hub_host()
    check_names(name, commit)
    cache = HeaderCache(name)
    forbidden = forbidden_by(offline=offline)
    blocks: dict[int, bytes] = {}

    def missing() -> UnknownError:
        return UnknownError(
            f"{name}@{commit[:12]}: {file} is not in the local cache, and {forbidden} forbids asking {host}",
            hint=f"run once without {forbidden}, or {WITHOUT_HUB}",
        )

    def ask(line: HubLine, numbers: range) -> tuple[bytes, int | None]:
        part = line.part(commit, file, numbers[0] * BLOCK_BYTES, (numbers[-1] + 1) * BLOCK_BYTES - 1)
        return part.data, part.file_bytes

    if files is None:
        listing = cache.listing(commit)
        if listing is None:
            if forbidden is not None:
                raise missing()
            listing = run(name, commit, lambda line: line.listing(commit))
            cache.keep_listing(listing)
        files = listing.files
    if file not in files:
        models = gguf_files(files)
        there = f"give one of: {gguf_list(models)}" if models else "check its name on the model's page"
        raise InputError(f"{name}@{commit[:12]} holds no file {file}", hint=there)
    file_bytes = files[file]
    if file_bytes is None:
        if forbidden is not None:
            raise missing()
        blocks[0], file_bytes = run(name, commit, lambda line: ask(line, range(1)))
        if file_bytes is None:
            raise UnknownError(f"{host} does not say how large {name} {file} is", hint=WITHOUT_HUB)

    def fetch(numbers: range) -> None:
        """Blocks that are not there yet: from the cache, and the rest in one request."""
        for number in numbers:
            if number not in blocks and (kept := cache.file(commit, f"{file}#{number}")) is not None:
                blocks[number] = kept
        missing_numbers = [number for number in numbers if number not in blocks]
        if not missing_numbers:
            return
        if forbidden is not None:
            raise missing()
        asked = range(missing_numbers[0], missing_numbers[-1] + 1)
        data, _ = run(name, commit, lambda line: ask(line, asked))
        for place, number in enumerate(asked):
            blocks[number] = data[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
            cache.keep_file(commit, f"{file}#{number}", blocks[number])

    def read(first_byte: int, num_bytes: int) -> bytes:
        last = min(first_byte + num_bytes, file_bytes) - 1
        if first_byte < 0 or last < first_byte:
            return b""
        numbers = range(first_byte // BLOCK_BYTES, last // BLOCK_BYTES + 1)
        fetch(numbers)
        data = b"".join(blocks[number] for number in numbers)
        start = first_byte - numbers[0] * BLOCK_BYTES
        return data[start : start + last - first_byte + 1]

    return read, file_bytes
