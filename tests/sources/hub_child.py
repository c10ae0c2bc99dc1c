"""Questions to the Hub, put in a child process: the Hub's client reads its variables when it is imported.

A child costs about half a second, so one child asks for many repositories, and children that must wait run side by side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

TOKEN = "hf_secretSecretSecret"

CHILD = """
import json, resource, sys, time
sockets = []
sys.addaudithook(lambda event, _: sockets.append(event) if event.startswith("socket.") else None)
from moeplan.core.errors import MoeplanError

def config(name, revision, offline):
    from moeplan.sources.hub.config import fetch_config
    found = fetch_config(name, revision, offline=offline)
    return {**found._asdict(), "remarks": [remark.code for remark in found.remarks],
            "messages": [remark.message for remark in found.remarks]}

def headers(name, revision, offline, only=None):
    from moeplan.sources.hub.config import fetch_config
    from moeplan.sources.hub.headers import fetch_checkpoint, without_headers
    found = fetch_config(name, revision, offline=offline)
    shown = []
    checkpoint = fetch_checkpoint(name, found.commit, offline=offline, files=found.files, only=only,
                                  progress=lambda done, total: shown.append((done, total)))
    remarks = [remark.code for remark in found.remarks]
    if checkpoint is None:
        told = without_headers(name, found.commit, found.files)
        return {"remarks": remarks + [remark.code for remark in told], "messages": [remark.message for remark in told]}
    tensors = checkpoint.tensors
    return {"commit": found.commit, "num_tensors": len(tensors), "num_bytes": checkpoint.num_bytes,
            "files": checkpoint.files, "shown": shown, "digest": hash_of(tensors), "metadata": dict(checkpoint.metadata),
            "remarks": remarks + [remark.code for remark in checkpoint.remarks]}

def bare_headers(name, revision, offline):
    from moeplan.sources.hub.headers import fetch_checkpoint
    checkpoint = fetch_checkpoint(name, revision, offline=offline)
    return {"num_bytes": checkpoint.num_bytes, "digest": hash_of(checkpoint.tensors),
            "remarks": [remark.code for remark in checkpoint.remarks]}

def full_disk(*_):
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    return {}

def hash_of(tensors):
    import hashlib
    return hashlib.sha256(repr(tensors).encode()).hexdigest()

def gguf(name, revision, offline, file, *spans):
    from moeplan.sources.hub.config import find_repository
    from moeplan.sources.hub.gguf import gguf_files, hub_range_reader
    found = find_repository(name, revision, offline=offline)
    read, file_bytes = hub_range_reader(name, found.commit, file, offline=offline, files=found.files)
    return {"file_bytes": file_bytes, "parts": [read(*span).hex() for span in spans],
            "models": [model._asdict() for model in gguf_files(found.files)]}

def peak_kib():
    # getrusage counts what the parent held when it started this process; the kernel's own mark begins here.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for line in sys.stdin:
    call, *arguments = json.loads(line)
    del sockets[:]
    began, cpu = time.monotonic(), time.process_time()
    try:
        answer = globals()[call](*arguments)
    except MoeplanError as error:
        answer = {"error": type(error).__name__, "code": error.exit_code, "message": error.message, "hint": error.hint}
    answer |= {"took_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu, "sockets": sockets,
               "peak_kib": peak_kib()}
    print(json.dumps(answer))
"""


class Told(NamedTuple):
    """What one question came to."""

    answer: Mapping[str, Any]
    message: str
    hint: str
    code: int
    took_s: float
    sockets: list[str]


class Ran(NamedTuple):
    told: list[Told]
    stderr: str
    took_s: float


def ask_child(home: Path, endpoint: str, *questions: tuple[Any, ...], **variables: str) -> Ran:
    """Put (function, name, revision, offline, ...) questions in one child process whose caches lie in `home`."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    del environment["HF_HUB_DISABLE_TELEMETRY"]  # what the client asks by itself is to be seen here
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **variables,
    }
    began = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(map(json.dumps, questions)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    took_s = time.monotonic() - began
    assert child.returncode == 0, child.stderr
    assert TOKEN not in child.stdout + child.stderr
    told = []
    for line in child.stdout.splitlines():
        answer = json.loads(line)
        words = answer.get("message", ""), answer.get("hint", ""), answer.get("code", 0)
        told.append(Told(answer, *words, answer["took_s"], answer["sockets"]))
    assert len(told) == len(questions)
    return Ran(told, child.stderr, took_s)
