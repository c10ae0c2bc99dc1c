"""A checkpoint's headers on the Hub, read by ranges: never a byte of weights beyond the first range of each file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.errors import InputError, MoeplanError, UnknownError
from moeplan.core.model import Remark
from moeplan.sources.checkpoint_files import ADAPTER_CONFIG, MOST_INDEX_BYTES, choose_files, index_file, parse_index
from moeplan.sources.checkpoint_files import weight_map as listed_tensors
from moeplan.sources.config_files import MOST_BYTES, parse_json_object
from moeplan.sources.hub.cache import HeaderCache
from moeplan.sources.hub.errors import hub_host
from moeplan.sources.hub.gguf import gguf_files, gguf_list
from moeplan.sources.hub.requests import (
    HubLine,
    Listing,
    Progress,
    check_names,
    forbidden_by,
    in_parallel,
    is_commit,
    prepare_client,
    run,
)
from moeplan.sources.safetensors_headers import (
    LENGTH_BYTES,
    Header,
    header_length,
    join_headers,
    parse_header,
    read_checkpoint_file,
    read_checkpoint_folder,
)

FIRST_BYTES = 100_000
"""First range of a file of which nothing is known: 97 in 100 headers are shorter (huggingface_hub 2.4.0 `hf_api.py`)."""
_ENTRY_BYTES = 96
"""A tensor's entry without its name: `"":{"dtype":"F8_E4M3","shape":[a,b],"data_offsets":[begin,end]},` is 60 to 90."""
_REST_BYTES = 1024
"""`__metadata__`, and the padding behind the header."""


def fetch_checkpoint(
    name: str,
    commit: str,
    *,
    offline: bool = False,
    files: Mapping[str, int | None] | None = None,
    only: str | None = None,
    progress: Progress | None = None,
) -> Checkpoint | None:
    """The safetensors headers of the Hub repository `name` at a full commit hash; None where it has no safetensors.

    `files` is what the repository holds, where the caller knows (`FetchedConfig.files`). `only` names one file to read
    in place of those that make up the model. `progress` is told how many files are read.

    Nothing is asked for when moeplan's cache or the Hub's own holds the headers; with `offline` or HF_HUB_OFFLINE no
    socket is opened. Else one request lists the files (unless `files` is given), one reads the index, and each file
    takes one more, or two where its header is longer than expected.

    Raises InputError for files that are broken or missing, and UnknownError when the Hub cannot be asked or does not
    say.
    """
    prepare_client()
    host = hub_host()
    check_names(name, commit)
    if not is_commit(commit):
        raise InputError(f"{name}: {commit!r} is no full commit hash", hint="give all 40 digits of it")
    cache = HeaderCache(name)
    kept = cache.checkpoint(commit, only)
    if kept is not None:
        return kept
    listing = Listing(commit, files) if files is not None else cache.listing(commit)
    if listing is not None and not has_safetensors(listing.files):
        return None
    forbidden = forbidden_by(offline=offline)
    found = _from_snapshot(name, listing, commit, only)
    if found is not None:
        return found
    if forbidden is not None:
        raise UnknownError(
            f"{name}@{commit[:12]}: its headers are not in the local cache, and {forbidden} forbids asking {host}",
            hint=f"run once without {forbidden}, or give a local folder",
        )

    def work(line: HubLine) -> Checkpoint | None:
        if listing is not None:
            return _read(line, listing, only)
        asked = line.listing(commit)
        cache.keep_listing(asked)
        return _read(line, asked, only)

    checkpoint = run(name, commit, work, progress=progress)
    if checkpoint is None:
        return None
    cache.keep_checkpoint(commit, checkpoint, only)
    return checkpoint._replace(remarks=(*checkpoint.remarks, *cache.remarks()))


def has_safetensors(files: Mapping[str, int | None]) -> bool:
    """Whether any file of a repository is one of safetensors."""
    return any(file.endswith(".safetensors") for file in files)


def without_headers(name: str, commit: str, files: Mapping[str, int | None]) -> tuple[Remark, ...]:
    """Why `fetch_checkpoint` returned None: what the repository holds in place of safetensors.

    Raises InputError for an adapter without its model.
    """
    where = f"{name}@{commit[:12]}"
    remarks = choose_files(list(files), None, where=where).remarks
    models = gguf_files(files)
    if remarks or not models:
        return remarks or (Remark("no-model-files", "warning", "the repository holds no weights", where),)
    message = f"the repository holds its weights in GGUF: name one with --file to read it: {gguf_list(models)}"
    return (Remark("gguf-only", "warning", message, where),)


def _from_snapshot(name: str, listing: Listing | None, commit: str, only: str | None) -> Checkpoint | None:
    """The headers of weights that the user has downloaded; None unless all of them are there."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots", commit)
    try:
        if only is not None:
            return read_checkpoint_file(folder / only) if (folder / only).is_file() else None
        if not folder.is_dir():
            return None
        found = read_checkpoint_folder(folder)
        if found is None or listing is None:
            return found
        names = list(listing.files)
        named = index_file(names)
        index = parse_index((folder / named).read_bytes(), named) if named else None
        # Half of a download may be whole in itself: a single file where the commit has better ones.
        return found if choose_files(names, index).files == found.files else None
    except (MoeplanError, OSError):
        return None


def _read(line: HubLine, listing: Listing, only: str | None) -> Checkpoint | None:
    commit = listing.commit
    where = f"{line.name}@{commit[:12]}"
    index: Mapping[str, Any] | None = None
    expected_bytes: Mapping[str, int] = {}
    if only is not None:
        if only not in listing.files:
            there = [file for file in listing.files if file.endswith(".safetensors")]
            raise InputError(f"{where} holds no file {only}", hint=f"give one of: {', '.join(there[:12])}")
        chosen = choose_files([only], None, where=where)
    else:
        if named := index_file(list(listing.files)):
            index = parse_index(line.file(commit, named, MOST_INDEX_BYTES), f"{where} {named}")
            expected_bytes = _expected_bytes(listed_tensors(index, f"{where} {named}"))
        adapter = None
        if ADAPTER_CONFIG in listing.files:
            data = line.file(commit, ADAPTER_CONFIG, MOST_BYTES)
            adapter = parse_json_object(data.decode("utf-8", "replace"), f"{where} {ADAPTER_CONFIG}")
        chosen = choose_files(list(listing.files), index, where=where, adapter_config=adapter)
    if not chosen.files:
        return None

    def fetch(file: str) -> tuple[bytes, int | None]:
        return _header(line, commit, file, f"{where} {file}", listing.files.get(file), expected_bytes.get(file))

    headers: dict[str, Header] = {}
    for file, (header, file_bytes) in in_parallel(chosen.files, fetch, line.watch):
        data_bytes = None if file_bytes is None else file_bytes - LENGTH_BYTES - len(header)
        headers[file] = parse_header(header, f"{where} {file}", data_bytes=data_bytes, file=file)
    return join_headers(chosen, [headers[file] for file in chosen.files], index, where)


_MOST_EXPECTED_BYTES = 4 << 20
"""An index may lie; a header that is really longer takes one more request."""


def _expected_bytes(listed: Mapping[str, str]) -> dict[str, int]:
    """About how long each file's header is, from the names that the index lists for it: a little more than it is."""
    expected: dict[str, int] = {}
    for tensor, file in listed.items():
        expected[file] = min(_MOST_EXPECTED_BYTES, expected.get(file, _REST_BYTES) + _ENTRY_BYTES + len(tensor))
    return expected


def _header(
    line: HubLine, commit: str, file: str, where: str, file_bytes: int | None, expected_bytes: int | None
) -> tuple[bytes, int | None]:
    """A file's header and the bytes of the file."""
    if file_bytes is not None and file_bytes < LENGTH_BYTES:
        header_length(b"", where, file_bytes)  # refuses it: an empty file has no ranges to ask for
    first_bytes = LENGTH_BYTES + (expected_bytes or FIRST_BYTES)
    first = line.part(commit, file, 0, first_bytes - 1)
    told_bytes = first.file_bytes if first.file_bytes is not None else file_bytes
    length = header_length(first.data[:LENGTH_BYTES], where, told_bytes)
    header = first.data[LENGTH_BYTES : LENGTH_BYTES + length]
    if len(header) < length:
        header += line.part(commit, file, len(first.data), LENGTH_BYTES + length - 1).data
    return header, told_bytes
