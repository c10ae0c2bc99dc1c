"""A Hub on 127.0.0.1 that speaks real HTTP, remembers what it was asked and fails on purpose.

It speaks the part of the Hub's protocol that huggingface_hub 2.4.0 uses to read files and a repository's description.
Status codes and `X-Error-Code` are those that the client's `utils/_http.py` looks for.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Fault(NamedTuple):
    """How a repository fails, instead of an answer."""

    status: int = 0
    code: str | None = None
    """`X-Error-Code`."""
    message: str | None = None
    """`X-Error-Message`."""
    headers: Mapping[str, str] = {}
    cut: bool = False
    """Close the connection without a word."""
    wait_s: float = 0
    """Say nothing for so long, then answer as if nothing was wrong (unless `status` is set)."""
    drip_s: float = 0
    """Send the body byte by byte, with such a pause before each."""
    after_bytes: int | None = None
    """Break the connection off after so many bytes of the body."""
    times: int | None = None
    """Fail so often, then answer."""
    methods: tuple[str, ...] = ("HEAD", "GET")


GATED_SIGNED_OUT = Fault(401, "GatedRepo", "Access to this model is restricted. You must be authenticated.")
GATED_SIGNED_IN = Fault(403, "GatedRepo", "Access to this model is restricted and you are not in the authorized list.")
PRIVATE = Fault(401, None, "Invalid username or password.")
BAD_TOKEN = Fault(401, None, "Invalid credentials in Authorization header")
DISABLED = Fault(403, None, "Access to this resource is disabled.")
RATE_LIMIT = Fault(429, headers={"RateLimit": '"resolvers";r=0;t=55'})
DESCRIPTION = ""
"""Stands for a repository's description among its files."""


class File(NamedTuple):
    """A file of a repository. `size_bytes` may claim more than `data` holds: then zeros follow, so that a stub of a header
    stands for a shard of weights.
    """

    data: bytes
    size_bytes: int | None = None
    elsewhere: str | None = None
    """Address of another server that holds the data, as large files have on the Hub."""

    @property
    def length_bytes(self) -> int:
        return len(self.data) if self.size_bytes is None else self.size_bytes


class Repository(NamedTuple):
    files: Mapping[str, File]
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    fault: Fault | None = None
    faults: Mapping[str, Fault] = {}
    """Of single files, and of the DESCRIPTION."""
    sizes: bool = True
    """Whether the description tells how large files are."""
    ranges: bool = True
    """False for a server in between that sends whole files."""


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""


class FakeHub:
    """Repositories by name, and the requests that came."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.sent_bytes = 0
        """All that went over the wire, headers of HTTP too."""
        self.failed: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()
        self.url = ""
        self.stopping = threading.Event()

    def add(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        sidecar: Mapping[str, Any] | None = None,
        files: Mapping[str, File | bytes] | None = None,
        revisions: tuple[str, ...] = ("main",),
        commit: str = COMMIT,
        fault: Fault | None = None,
        faults: Mapping[str, Fault] | None = None,
        sizes: bool = True,
        ranges: bool = True,
    ) -> None:
        held: dict[str, File | bytes] = dict(files or {})
        if config is not None:
            held["config.json"] = json.dumps(config).encode()
        if sidecar is not None:
            held["hf_quant_config.json"] = json.dumps(sidecar).encode()
        self.repositories[name] = Repository(
            {path: file if isinstance(file, File) else File(file) for path, file in held.items()},
            commit,
            revisions,
            fault,
            faults or {},
            sizes,
            ranges,
        )

    def asked(self, name: str) -> list[str]:
        """`METHOD path` of the requests for a repository's files and description, in order."""
        return [f"{request.method} {request.path}" for request in self.requests if f"/{name}" in request.path]


class _Counted:
    """A connection that counts what is sent."""

    def __init__(self, wfile: BufferedIOBase, hub: FakeHub) -> None:
        self.wfile = wfile
        self.hub = hub

    def write(self, data: bytes) -> int:
        with self.hub.lock:
            self.hub.sent_bytes += len(data)
        return self.wfile.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wfile, name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the client keeps connections open
    hub: FakeHub

    def setup(self) -> None:
        super().setup()
        self.wfile = cast(BufferedIOBase, _Counted(self.wfile, self.hub))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class has
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._serve()

    def _serve(self) -> None:
        path = urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, self.path, headers))
        found = re.fullmatch(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", path) or re.fullmatch(
            r"/api/models/(?P<name>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?(?P<file>)", path
        )
        if found is None:
            self._answer(404, b"")
            return
        repository = self.hub.repositories.get(found["name"])
        if repository is None:
            self._refuse(Fault(404, "RepoNotFound"))
            return
        wanted = unquote(found["file"])
        fault = repository.faults.get(wanted) or repository.fault or Fault()
        with self.hub.lock:
            self.hub.failed[found["name"], wanted] += 1
            spent = fault.times is not None and self.hub.failed[found["name"], wanted] > fault.times
        if spent or self.command not in fault.methods:
            fault = Fault()
        self.hub.stopping.wait(fault.wait_s)
        if fault.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault.status:
            self._refuse(fault)
            return
        if unquote(found["revision"] or "main") not in (*repository.revisions, repository.commit):
            self._refuse(Fault(404, "RevisionNotFound"))
            return
        commit = {"X-Repo-Commit": repository.commit}
        if path.startswith("/api/"):
            self._answer(200, json.dumps(_description(found["name"], repository)).encode(), fault=fault)
            return
        file = repository.files.get(wanted)
        if file is None:
            self._refuse(Fault(404, "EntryNotFound", headers=commit))
        else:
            self._send_file(file, commit, fault, ranges=repository.ranges)

    def _send_file(self, file: File, headers: Mapping[str, str], fault: Fault, *, ranges: bool) -> None:
        tag = f'"{hash((file.data, file.size_bytes)):x}"'
        if file.elsewhere:
            linked = {"Location": file.elsewhere, "X-Linked-Size": str(file.length_bytes), "X-Linked-ETag": tag}
            self._answer(302, b"", {**headers, **linked})
            return
        headers = {**headers, "ETag": tag}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if wanted is None or not ranges:
            self._answer(200, file.data, headers, length_bytes=file.length_bytes, fault=fault)
            return
        first, last = int(wanted[1]), min(int(wanted[2]), file.length_bytes - 1)
        if first > last:
            self._answer(416, b"", {**headers, "Content-Range": f"bytes */{file.length_bytes}"})
            return
        part = {**headers, "Content-Range": f"bytes {first}-{last}/{file.length_bytes}"}
        self._answer(206, file.data[first : last + 1].ljust(last + 1 - first, b"\0"), part, fault=fault)

    def _refuse(self, fault: Fault) -> None:
        named = {"X-Error-Code": fault.code, "X-Error-Message": fault.message}
        headers = {name: value for name, value in named.items() if value is not None}
        self._answer(fault.status, b"{}", {**headers, **fault.headers})

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        length_bytes: int | None = None,
        fault: Fault | None = None,
    ) -> None:
        fault = fault or Fault()
        length_bytes = len(body) if length_bytes is None else length_bytes
        self.send_response(status)
        for name, value in {"Content-Length": str(length_bytes), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.after_bytes is not None:
            self.wfile.write(body[: fault.after_bytes])
            self.close_connection = True
            return
        if not fault.drip_s:
            self.wfile.write(body)
        for place in range(len(body) if fault.drip_s else 0):
            if self.hub.stopping.wait(fault.drip_s):
                break
            self.wfile.write(body[place : place + 1])
        rest_bytes = length_bytes - len(body)
        while rest_bytes > 0 and not self.hub.stopping.is_set():  # until the client has had enough
            rest_bytes -= self.wfile.write(b"\0" * min(rest_bytes, 2**16))


def _description(name: str, repository: Repository) -> dict[str, Any]:
    return {
        "id": name,
        "sha": repository.commit,
        "private": False,
        "gated": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [
            {"rfilename": path, **({"size": file.length_bytes} if repository.sizes else {})}
            for path, file in repository.files.items()
        ],
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: that a client gives up is what some tests are about."""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A running Hub without repositories, for as long as the block lasts."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def shard(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], *, padding_bytes: int = 0) -> File:
    """A safetensors file that is all header: (dtype, shape, bytes) by name, and as much data as it claims."""
    place = 0
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, (dtype, shape, num_bytes) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + num_bytes]}
        place += num_bytes
    text = json.dumps(header, separators=(",", ":")).encode() + b" " * padding_bytes
    return File(len(text).to_bytes(8, "little") + text, 8 + len(text) + place)


def sharded(num_shards: int, num_tensors: int, tensor_bytes: int = 7_340_032) -> dict[str, File | bytes]:
    """Shards and index of a model with names as long as those of DeepSeek-V3's experts, in FP8 with a scale for each."""
    shape = (2048, tensor_bytes // 2048)
    names = [
        f"model.layers.{pair // 768 + 3}.mlp.experts.{pair % 768 // 3}.{('gate', 'up', 'down')[pair % 3]}_proj.weight{part}"
        for pair in range((num_tensors + 1) // 2)
        for part in ("", "_scale_inv")
    ][:num_tensors]
    held: dict[str, dict[str, tuple[str, tuple[int, ...], int]]] = {}
    weight_map: dict[str, str] = {}
    for place, name in enumerate(names):
        file = f"model-{place * num_shards // num_tensors + 1:05}-of-{num_shards:06}.safetensors"
        weight_map[name] = file
        tensor = ("F32", (16, 56), 3584) if name.endswith("_inv") else ("F8_E4M3", shape, tensor_bytes)
        held.setdefault(file, {})[name] = tensor
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    files: dict[str, File | bytes] = {file: shard(tensors) for file, tensors in held.items()}
    return {**files, "model.safetensors.index.json": json.dumps(index).encode()}
