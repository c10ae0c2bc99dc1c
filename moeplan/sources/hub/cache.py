"""What moeplan has read of the Hub, kept so that a second run makes no request.

    <cache folder>/moeplan/hub/<host>/<org>--<name>/
        refs/<revision>.json            which commit a branch or tag was, and when that was asked
        <commit>/files.json             the files of the commit and their sizes
        <commit>/config.json, ...       small files as they are
        <commit>/headers-<format>.json.gz    the tensors of a checkpoint

A commit never changes, so nothing here gets stale but refs. Each file is replaced as a whole: two runs at once write
the same bytes, and one that is interrupted leaves the old file or none. A file that is broken counts as absent and
is written again. Where nothing can be written moeplan works without. The folder can be deleted at any time.
"""

import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.core.model import Remark
from moeplan.sources.file_writing import replace_file
from moeplan.sources.hub.requests import Listing, is_commit

FORMAT = 1
"""Of headers; raised when they are kept in another way, or when other files of a repository are chosen."""
REMEMBER_S = 3600
"""How long a branch counts as the commit that it was."""

_Kept = TypeVar("_Kept")


class Recalled(NamedTuple):
    """The commit that a branch or tag was, and how long ago that was asked."""

    commit: str
    age_s: float


def user_cache_folder() -> Path | None:
    """moeplan's folder for what can be read again; it need not exist. None for a user without a home.

    XDG_CACHE_HOME holds on every platform; where it is unset or relative, the platform's own folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            home = Path("~").expanduser()
        except RuntimeError:
            return None
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = home / "Library" / "Caches"
        else:
            base = home / ".cache"
    return base / "moeplan"


class HeaderCache:
    """What is kept of one repository of the Hub that HF_ENDPOINT names."""

    def __init__(self, name: str) -> None:
        from huggingface_hub import constants

        parts = urlsplit(constants.ENDPOINT)
        host = f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"  # no user, no password
        base = user_cache_folder()
        # No id of a repository holds `--` (huggingface_hub 2.4.0 `utils/_validators.py`).
        self.folder = base and base / "hub" / _file_name(host) / _file_name(name.replace("/", "--"))
        self.name = name
        self.trouble: str | None = None
        """Why something could not be kept."""

    def remarks(self) -> tuple[Remark, ...]:
        """A remark where something could not be kept."""
        if self.trouble is None:
            return ()
        message = f"what was read of {self.name} is not kept for the next run: {self.trouble}"
        return (Remark("cache-not-written", "info", message, str(self.folder) if self.folder else None),)

    def recall(self, revision: str | None) -> Recalled | None:
        """The commit that a revision was when it was last asked for; None for the default branch is `main`."""

        def read(data: bytes) -> Recalled:
            kept = json.loads(data)
            age_s = time.time() - kept["asked_at_s"]
            if not is_commit(kept["commit"]) or age_s < 0:
                raise ValueError
            return Recalled(kept["commit"], age_s)

        return self._load(("refs", f"{revision or 'main'}.json"), read)

    def remember(self, revision: str | None, commit: str) -> None:
        """Keep which commit a revision is now."""
        kept = {"commit": commit, "asked_at_s": time.time()}
        self._store(("refs", f"{revision or 'main'}.json"), json.dumps(kept).encode())

    def listing(self, commit: str) -> Listing | None:
        """The files of a commit."""

        def read(data: bytes) -> Listing:
            files = json.loads(data)
            for size in files.values():
                if size is not None and type(size) is not int:
                    raise TypeError
            return Listing(commit, files)

        return self._load((commit, "files.json"), read)

    def keep_listing(self, listing: Listing) -> None:
        """Keep the files of a commit."""
        self._store((listing.commit, "files.json"), json.dumps(dict(listing.files)).encode())

    def file(self, commit: str, file: str) -> bytes | None:
        """A small file of a commit, or a block of a large one (`name#3`)."""
        return self._load((commit, f"file-{file}"), _unpacked)

    def keep_file(self, commit: str, file: str, data: bytes) -> None:
        """Keep a small file of a commit, or a block of a large one."""
        self._store((commit, f"file-{file}"), _packed(data))

    def checkpoint(self, commit: str, chosen: str | None = None) -> Checkpoint | None:
        """The headers of a commit; `chosen` tells variants of one repository apart."""
        return self._load((commit, _headers_name(chosen)), lambda data: _checkpoint(_unpacked(data)))

    def keep_checkpoint(self, commit: str, checkpoint: Checkpoint, chosen: str | None = None) -> None:
        """Keep the headers of a commit."""
        self._store((commit, _headers_name(chosen)), _packed(_columns(checkpoint)))

    def _load(self, place: tuple[str, ...], read: Callable[[bytes], _Kept]) -> _Kept | None:
        if self.folder is None:
            return None
        try:
            return read(self.folder.joinpath(*map(_file_name, place)).read_bytes())
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, zlib.error):
            return None  # absent or broken: read from the Hub again

    def _store(self, place: tuple[str, ...], data: bytes) -> None:
        if self.folder is None:
            self.trouble = "no home folder and no XDG_CACHE_HOME"
            return
        path = self.folder.joinpath(*map(_file_name, place))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, data)
        except (OSError, ValueError) as error:
            self.trouble = getattr(error, "strerror", None) or str(error)


def _file_name(text: str) -> str:
    """A name that is one file on every platform; no two texts share one unless they differ in case alone."""
    return quote(text, safe=" #+,=@").replace("~", "%7E") if text.strip(".") else f"%{text}"


def _headers_name(chosen: str | None) -> str:
    return f"headers-{FORMAT}{f'-{chosen}' if chosen else ''}.json.gz"


def _packed(data: bytes) -> bytes:
    return zlib.compress(data, 3, wbits=31)  # as gzip, without a date: same data, same bytes


def _unpacked(data: bytes) -> bytes:
    """Raises zlib.error for data that is not whole: the format carries a checksum."""
    return zlib.decompress(data, wbits=31)


# A checkpoint as columns: 92,000 tensors share some twenty shapes ---------------------------------------------


def _columns(checkpoint: Checkpoint) -> bytes:
    shapes: dict[tuple[int, ...], int] = {}
    dtypes: dict[str, int] = {}
    files: dict[str, int] = {file: place for place, file in enumerate(checkpoint.files)}
    tensors = checkpoint.tensors
    columns: Mapping[str, Any] = {
        "format": FORMAT,
        "name": [tensor.name for tensor in tensors],
        "dtype": [dtypes.setdefault(tensor.dtype, len(dtypes)) for tensor in tensors],
        "shape": [shapes.setdefault(tensor.shape, len(shapes)) for tensor in tensors],
        "num_bytes": [tensor.num_bytes for tensor in tensors],
        "file": [files.setdefault(tensor.file, len(files)) for tensor in tensors],
        "dtypes": list(dtypes),
        "shapes": list(shapes),
        "files": list(files),
        "num_files": len(checkpoint.files),
        "metadata": dict(checkpoint.metadata),
        "remarks": checkpoint.remarks,
    }
    return json.dumps(columns, separators=(",", ":")).encode()


def _checkpoint(data: bytes) -> Checkpoint:
    """Raises ValueError, TypeError or LookupError for anything that is no kept checkpoint."""
    kept = json.loads(data)
    if kept["format"] != FORMAT:
        raise ValueError
    shapes = [tuple(map(int, shape)) for shape in kept["shapes"]]
    dtypes, files = list(map(str, kept["dtypes"])), list(map(str, kept["files"]))
    columns = kept["name"], kept["dtype"], kept["shape"], kept["num_bytes"], kept["file"]
    if min(map(min, columns[1:]), default=0) < 0 if columns[0] else False:
        raise ValueError
    tensors = tuple(
        StoredTensor(name, dtypes[dtype], shapes[shape], num_bytes, files[file])
        for name, dtype, shape, num_bytes, file in zip(*columns, strict=True)
    )
    remarks = tuple(Remark(*remark) for remark in kept["remarks"])
    return Checkpoint(tensors, tuple(files[: kept["num_files"]]), kept["metadata"], remarks)
