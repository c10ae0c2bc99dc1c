"""Requests to the Hub through its own client's session: ranges of files, bounded in bytes and in time.

The client's own calls retry a dead Hub for some 20 s without a word (huggingface_hub 2.4.0 `file_download.py`), and
its API class costs a quarter of a second to import. So requests are put here, with the client's session, headers and
error types: proxies, certificates, HF_ENDPOINT and HF_TOKEN hold as they do for the client, and the token does not
follow a redirect to another host (httpx strips it).
"""

import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from moeplan.core.errors import ConfigError, InputError, UnknownError
from moeplan.sources.hub.errors import ANSWER_S, WITHOUT_HUB, explained, hub_host, kinds_of, no_hub, wait_s
from moeplan.version import __version__

STILL_S = 7
"""How long nothing may arrive: a Hub that hangs is told in under 10 s, start-up included."""
PATIENCE_S = 4
"""The longest wait that a rate limit may ask for; a longer one is told and not waited for."""
WORKERS = 12
COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_LISTING_BYTES = 64 * 2**20
_STEP_BYTES = 32 * 2**10
"""What must arrive within STILL_S of one answer for the line to count as alive."""

# What git allows in no ref (git-check-ref-format), and what would lead out of the cache's folder.
_NO_REVISION = re.compile(r"[\s~^:?*\[\\\x00-\x1f\x7f]|\.\.|^/|/$|^$")

_Result = TypeVar("_Result")
_Job = TypeVar("_Job")
Progress = Callable[[int, int], None]
"""Called in the caller's thread with how many files are read, and of how many."""


class Listing(NamedTuple):
    """What a commit of a repository holds."""

    commit: str
    files: Mapping[str, int | None]
    """Paths and their bytes, None where the Hub does not tell."""


class Part(NamedTuple):
    """Bytes of a file from some offset on, and the bytes of the whole file where the answer tells."""

    data: bytes
    file_bytes: int | None


class Watch:
    """Tells a slow line from a dead one: counts what arrives, and stops the threads that work for a run."""

    def __init__(self) -> None:
        self.beats = 0  # threads add to these without a lock: only that they change matters
        self.received_bytes = 0
        self.done = 0
        self.total = 0
        self.stop = threading.Event()

    def arrived(self, num_bytes: int) -> None:
        """Count bytes of an answer."""
        self.received_bytes += num_bytes

    @property
    def signs_of_life(self) -> tuple[int, int]:
        """Changes for as long as answers end or large ones grow."""
        return self.beats, self.received_bytes // _STEP_BYTES


class HubLine:
    """Asks for one repository. Make it in the thread that `run` starts: a token may have to be renewed first."""

    def __init__(self, name: str, watch: Watch) -> None:
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # loaded lazily

        self.name = name
        self.watch = watch
        self.headers = build_hf_headers(library_name="moeplan", library_version=__version__)

    def listing(self, revision: str | None) -> Listing:
        """The commit of a revision and its files: one request. Raises errors of the client, and UnknownError."""
        from huggingface_hub import constants

        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        data = self.whole(f"{constants.ENDPOINT}/api/models/{self.name}{at}?blobs=true", _MOST_LISTING_BYTES)
        try:
            answer = json.loads(data)
            commit = answer["sha"]
            files = {entry["rfilename"]: entry.get("size") for entry in answer["siblings"]}
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise no_hub(hub_host()) from None
        sizes_hold = all(size is None or (isinstance(size, int) and size >= 0) for size in files.values())
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit) or not sizes_hold:
            raise no_hub(hub_host())
        return Listing(commit, files)

    def file(self, commit: str, file: str, most_bytes: int) -> bytes:
        """A small file. Raises errors of the client, and ConfigError for a file of more than `most_bytes`."""
        return self.whole(self._address(commit, file), most_bytes, f"{self.name} {file}")

    def part(self, commit: str, file: str, first: int, last: int) -> Part:
        """Bytes `first` to `last` of a file, or fewer where it ends before. Raises errors of the client."""
        return self._patiently(lambda: self._part(self._address(commit, file), first, last))

    def whole(self, address: str, most_bytes: int, where: str | None = None) -> bytes:
        """The body of an answer. Raises ConfigError, or without `where` UnknownError, above `most_bytes`."""
        data = self._patiently(lambda: self._read(address, {}, most_bytes + 1)[0])
        if len(data) <= most_bytes:
            return data
        if where is None:
            raise no_hub(hub_host())
        raise ConfigError(f"{where}: more than {most_bytes // 2**20:,} MiB", hint=WITHOUT_HUB)

    def _address(self, commit: str, file: str) -> str:
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.name, file, revision=commit))

    def _patiently(self, ask: Callable[[], _Result]) -> _Result:
        """Ask, and ask once more after a short wait where that may help."""
        try:
            return ask()
        except Exception as error:
            pause_s = _pause_s(error)
            if pause_s is None or self.watch.stop.wait(pause_s):
                raise
        self.watch.beats += 1
        return ask()

    def _part(self, address: str, first: int, last: int) -> Part:
        # Compressed answers have no ranges that mean anything.
        headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        data, status, answered = self._read(address, headers, last - first + 1, skip_if_whole=first)
        if status != 206:  # a server in between that ignores ranges: no more was read than was asked for
            length = answered.get("Content-Length", "")
            return Part(data, int(length) if length.isdigit() else None)
        told = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", answered.get("Content-Range", ""))
        if told is None or int(told[1]) != first:
            raise no_hub(hub_host())
        file_bytes = None if told[3] == "*" else int(told[3])
        wanted = last if file_bytes is None else min(last, file_bytes - 1)
        if len(data) != wanted - first + 1:
            raise UnknownError(f"{hub_host()} sent only a part of {self.name}", hint=f"try again, or {WITHOUT_HUB}")
        return Part(data, file_bytes)

    def _read(
        self, address: str, headers: Mapping[str, str], most_bytes: int, *, skip_if_whole: int = 0
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """At most `most_bytes` of a body, with status and headers; what lies beyond is not read."""
        from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]  # loaded lazily

        data = bytearray()
        asked = get_session().stream("GET", address, headers={**self.headers, **headers}, timeout=ANSWER_S)
        with asked as response:
            hf_raise_for_status(response)
            skip = skip_if_whole if response.status_code != 206 else 0
            for chunk in response.iter_bytes():
                self.watch.arrived(len(chunk))
                data += chunk
                if len(data) >= skip + most_bytes:
                    break
                if self.watch.stop.is_set():  # nobody waits any more; what has come is no answer
                    raise TimeoutError("given up before the answer was whole")
            self.watch.beats += 1
            return bytes(data[skip : skip + most_bytes]), response.status_code, response.headers


def _pause_s(error: Exception) -> float | None:
    """How long to wait before asking once more; None where that would not help."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        asked_s = wait_s(error.response.headers) if status == 429 else None
        if asked_s is not None:  # one second more, against rounding
            return asked_s + 1.0 if asked_s + 1 <= PATIENCE_S else None
        return 0.5 if status in {500, 502, 503, 504} else None
    kinds = kinds_of(error)
    broke_off = kinds & {"RemoteProtocolError", "ReadError", "WriteError"}
    return 0.2 if broke_off else None


# Threads and limits of time ----------------------------------------------------------------------------------


def run(
    name: str,
    revision: str | None,
    work: Callable[[HubLine], _Result],
    *,
    limit_s: float | None = None,
    began_s: float | None = None,
    progress: Progress | None = None,
) -> _Result:
    """Do `work`, or give up: `limit_s` after `began_s`, or without it once nothing has arrived for STILL_S.

    Timeouts of single requests do not add up to one limit: name lookups have none, each address of a host gets its
    own, and a server that drips bytes never runs into one. Threads that are left behind end with the process.

    Raises what `work` raises, with errors of the client put in words (MoeplanError).
    """
    watch = Watch()
    done: list[_Result] = []
    failed: list[Exception] = []
    with _quiet_client():
        thread = _start(lambda: done.append(work(HubLine(name, watch))), failed)
        try:
            _wait(thread, watch, limit_s, began_s, progress)
        finally:
            watch.stop.set()
    if failed:
        told = explained(failed[0], name, revision)
        if told is None:  # a mistake of ours
            raise failed[0]
        raise told from None
    if not done:
        silent = f"was silent for {STILL_S} s" if limit_s is None else f"did not finish its answer within {limit_s:g} s"
        raise UnknownError(f"{hub_host()} {silent}", hint=WITHOUT_HUB)
    return done[0]


def _wait(
    thread: threading.Thread, watch: Watch, limit_s: float | None, began_s: float | None, progress: Progress | None
) -> None:
    alive_s = time.monotonic()
    began_s = alive_s if began_s is None else began_s
    signs = watch.signs_of_life
    shown = -1
    while thread.is_alive():
        thread.join(0.02)
        now_s = time.monotonic()
        if watch.signs_of_life != signs:
            signs, alive_s = watch.signs_of_life, now_s
        if progress is not None and watch.total and shown != watch.done:
            shown = watch.done
            progress(shown, watch.total)
        if now_s - alive_s > STILL_S if limit_s is None else now_s - began_s > limit_s:
            return


def in_parallel(
    jobs: Sequence[_Job], do: Callable[[_Job], _Result], watch: Watch, workers: int = WORKERS
) -> Iterator[tuple[_Job, _Result]]:
    """Results of `do` as they come; the first failure is raised and ends all."""
    waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[_Job, _Result]] = queue.SimpleQueue()
    failed: list[Exception] = []
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        with suppress(queue.Empty):
            while not failed and not watch.stop.is_set():
                job = waiting.get_nowait()
                results.put((job, do(job)))

    watch.total = len(jobs)
    for _ in range(min(workers, len(jobs))):
        _start(work, failed)
    while watch.done < len(jobs) and not watch.stop.is_set():
        if failed:
            watch.stop.set()
            raise failed[0]
        with suppress(queue.Empty):
            result = results.get(timeout=0.05)
            watch.done += 1
            yield result


def _start(work: Callable[[], object], failed: list[Exception]) -> threading.Thread:
    def guarded() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            failed.append(error)

    thread = threading.Thread(target=guarded, name="moeplan-hub", daemon=True)
    thread.start()
    return thread


@contextmanager
def _quiet_client() -> Iterator[None]:
    """No notes of the client's own on stderr: one line of ours says what went wrong."""
    import logging

    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(level)


# Before anything is asked ------------------------------------------------------------------------------------


def prepare_client() -> None:
    """A checkpoint is all that is wanted: no list of agents, and no versions of other libraries to the Hub."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def forbidden_by(*, offline: bool) -> str | None:
    """What forbids to open a connection, in the user's words; None where nothing does."""
    from huggingface_hub import constants

    return "--offline" if offline else "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else None


def check_names(name: str, revision: str | None) -> None:
    """Raises InputError for what is no id of a repository, or no revision."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HFValidationError

    try:
        hf_hub_url(name, "config.json")
    except HFValidationError:
        raise InputError(
            f"{name!r} is no id of a Hub repository", hint="write org/name, as in the address of its page"
        ) from None
    if revision is not None and _NO_REVISION.search(revision):
        raise InputError(
            f"{name}: {revision!r} is no revision",
            hint="leave it out for the default branch, or give a branch, a tag or a full commit hash",
        )


def is_commit(revision: str | None) -> bool:
    """True for a full commit hash, which names the same files for ever."""
    return COMMIT.fullmatch(revision or "") is not None
