"""What reading the headers of a large checkpoint on the Hub costs: 92,000 tensors in 163 shards, on a loopback Hub.

    python benchmarks/checkpoints.py [--shards N] [--tensors N] [--delay S]

The server is the one of the tests (tests/sources/fake_hub.py); it counts requests and bytes. Each reader runs in a
process of its own. `huggingface_hub` is its get_safetensors_metadata, which reads the same headers and keeps none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.sources.fake_hub import FakeHub, Fault, fake_hub, sharded  # noqa: E402

SLACK_REQUESTS = 8
MOST_RECEIVED_MB = 30
MOST_PARSING_S = 2
MOST_PEAK_MIB = 250

MOEPLAN = """
import time
from moeplan.sources.hub import config as hub
from moeplan.sources.hub import headers as hub_headers

parsing_s = 0.0

def timed(function):
    def call(*arguments, **named):
        global parsing_s
        began_s = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            parsing_s += time.thread_time() - began_s
    return call

for name in ("parse_index", "listed_tensors", "_expected_bytes", "choose_files", "parse_header", "join_headers"):
    setattr(hub_headers, name, timed(getattr(hub_headers, name)))
began_s = time.perf_counter()
found = hub.fetch_config("org/large", None, offline=False)
checkpoint = hub_headers.fetch_checkpoint("org/large", found.commit, files=found.files)
wall_s = time.perf_counter() - began_s
num_tensors = len(checkpoint.tensors)
"""
CLIENT = """
import time
from huggingface_hub import HfApi

parsing_s = None
began_s = time.perf_counter()
found = HfApi().get_safetensors_metadata("org/large")
wall_s = time.perf_counter() - began_s
num_tensors = sum(len(file.tensors) for file in found.files_metadata.values())
"""
TELL = """
import json, resource, sys
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print(json.dumps([num_tensors, wall_s, time.process_time(), parsing_s, peak_mib]))
"""


def main() -> int:
    """Print the table; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=163)
    parser.add_argument("--tensors", type=int, default=92_000)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that the server waits before each answer")
    chosen = parser.parse_args()
    print(f"{chosen.tensors:,} tensors in {chosen.shards} shards; {chosen.delay * 1e3:.0f} ms before each answer")
    print(f"{'reader':<22} {'requests':>8} {'received':>9} {'wall':>8} {'CPU':>7} {'parsing':>8} {'peak':>8}")
    missed = False
    with fake_hub() as hub, tempfile.TemporaryDirectory() as home:
        hub.add(
            "org/large",
            config={"model_type": "deepseek_v3"},
            files=sharded(chosen.shards, chosen.tensors),
            fault=Fault(wait_s=chosen.delay),
        )
        rows = {
            "moeplan, first run": _row(hub, home, MOEPLAN),
            "moeplan, second run": _row(hub, home, MOEPLAN),
            "huggingface_hub": _row(hub, home, CLIENT),
        }
    for name, (requests, received_mb, (num_tensors, wall_s, cpu_s, parsing_s, peak_mib)) in rows.items():
        told = f"{parsing_s:6.2f} s" if parsing_s is not None else f"{'':>8}"
        print(
            f"{name:<22} {requests:>8} {received_mb:>6.1f} MB {wall_s:>6.2f} s {cpu_s:>5.2f} s {told:>8} {peak_mib:>4.0f} MiB"
        )
        if not name.startswith("moeplan"):
            continue
        most_requests = chosen.shards + SLACK_REQUESTS if "first" in name else 0
        missed |= num_tensors != chosen.tensors or requests > most_requests or received_mb > MOST_RECEIVED_MB
        missed |= parsing_s > MOST_PARSING_S or peak_mib > MOST_PEAK_MIB
    bars = f"{chosen.shards + SLACK_REQUESTS:>8} {MOST_RECEIVED_MB:>6.1f} MB {'':>8} {'':>7} {MOST_PARSING_S:>6.2f} s"
    print(f"{'bar':<22} {bars} {MOST_PEAK_MIB:>4} MiB")
    return int(missed)


def _row(hub: FakeHub, home: str, code: str) -> tuple[int, float, list[Any]]:
    """Requests and MB that the server counted, and what the child tells of itself."""
    before = len(hub.requests), hub.sent_bytes
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": home,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "XDG_CACHE_HOME": home,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", code + TELL]
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return len(hub.requests) - before[0], (hub.sent_bytes - before[1]) / 1e6, json.loads(child.stdout)


if __name__ == "__main__":
    sys.exit(main())
