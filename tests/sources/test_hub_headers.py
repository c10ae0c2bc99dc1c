"""Headers of checkpoints on the Hub: what is asked for, what is read, what is kept, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moeplan.core.checkpoint import StoredTensor
from moeplan.core.errors import EXIT_INPUT, EXIT_UNKNOWN
from tests.sources.fake_hub import COMMIT, RATE_LIMIT, FakeHub, Fault, File, closed_port, fake_hub, shard, sharded
from tests.sources.hub_child import TOKEN, Ran, Told, ask_child

CONFIG = {"model_type": "mixtral", "hidden_size": 4096}
INDEX = "model.safetensors.index.json"
MOST_S = 10
SMALL: Mapping[str, tuple[str, tuple[int, ...], int]] = {
    "model.embed_tokens.weight": ("BF16", (1000, 64), 128_000),
    "model.layers.0.mlp.gate.weight": ("F32", (8, 64), 2048),
    "lm_head.weight": ("F8_E4M3", (1000, 64), 64_000),
}


def ask(
    home: Path, endpoint: str, *names: str, revision: str | None = None, offline: bool = False, **variables: str
) -> Ran:
    return ask_child(home, endpoint, *(("headers", name, revision, offline) for name in names), **variables)


def stored(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], file: str) -> list[StoredTensor]:
    return [StoredTensor(name, *parts, file) for name, parts in tensors.items()]


def digest(tensors: list[StoredTensor]) -> str:
    return hashlib.sha256(repr(tuple(tensors)).encode()).hexdigest()


def two_shards(second: File | None = None) -> dict[str, File | bytes]:
    first = {"a.weight": ("BF16", (4, 4), 32)}
    last = {"b.weight": ("BF16", (4, 4), 32)}
    files = {
        "model-00001-of-00002.safetensors": shard(first),
        "model-00002-of-00002.safetensors": second or shard(last),
    }
    weight_map = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}
    return {**files, INDEX: json.dumps({"metadata": {"total_size": 64}, "weight_map": weight_map}).encode()}


def kept_files(home: Path) -> dict[str, bytes]:
    folder = home / "cache" / "moeplan"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        yield running


def test_a_large_model_takes_one_request_for_each_shard_and_no_more_than_30_mb(hub: FakeHub, tmp_path: Path) -> None:
    num_shards, num_tensors = 163, 92_000
    files = sharded(num_shards, num_tensors)
    held = [file for file in files.values() if isinstance(file, File)]
    assert sum(file.length_bytes for file in held) > 300 * 10**9
    hub.add("org/large", config=CONFIG, sidecar={"quantization": {}}, files=files)

    (told,) = ask(tmp_path, hub.url, "org/large").told
    assert told.answer["num_tensors"] == num_tensors
    assert told.answer["num_bytes"] == sum(file.length_bytes - len(file.data) for file in held)
    assert told.answer["shown"][-1] == [num_shards, num_shards]
    assert len(hub.requests) <= num_shards + 8
    assert hub.sent_bytes < 30 * 10**6
    assert told.answer["peak_kib"] < 250 * 1024
    ranges = [request for request in hub.requests if "range" in request.headers]
    assert len(ranges) == num_shards
    assert {request.path.partition("/resolve/")[2].partition("/")[0] for request in ranges} == {COMMIT}

    asked_before = len(hub.requests)
    (again,) = ask(tmp_path, hub.url, "org/large").told
    (pinned,) = ask(tmp_path, hub.url, "org/large", revision=COMMIT).told
    (offline,) = ask(tmp_path, hub.url, "org/large", offline=True).told
    assert len(hub.requests) == asked_before
    for later, remarks in ((again, ["revision-remembered"]), (pinned, []), (offline, [])):
        assert later.sockets == []
        assert later.answer["digest"] == told.answer["digest"]
        assert later.answer["files"] == told.answer["files"]
        assert later.answer["metadata"] == told.answer["metadata"]
        assert later.answer["remarks"] == remarks
        assert later.answer["peak_kib"] < 250 * 1024


def test_no_byte_of_weights_is_asked_for_beyond_the_first_range(hub: FakeHub, tmp_path: Path) -> None:
    plain = shard(SMALL)
    long = shard(SMALL, padding_bytes=300_000)
    short = File(plain.data + b"\0" * (plain.length_bytes - len(plain.data)))
    for name, file in {"plain": plain, "long": long, "whole": short}.items():
        hub.add(f"org/{name}", config=CONFIG, files={"model.safetensors": file})
    hub.add("org/sizeless", config=CONFIG, files={"model.safetensors": long}, sizes=False)
    ran = ask(tmp_path, hub.url, "org/plain", "org/long", "org/whole", "org/sizeless", HF_TOKEN=TOKEN)
    expected = digest(stored(SMALL, "model.safetensors"))
    assert [told.answer["digest"] for told in ran.told] == [expected] * 4
    ranges = {
        name: [
            request.headers["range"]
            for request in hub.requests
            if f"/{name}/resolve" in request.path and "range" in request.headers
        ]
        for name in ("plain", "long", "sizeless")
    }
    rest = f"bytes=100008-{len(long.data) - 1}"
    assert ranges == {
        "plain": ["bytes=0-100007"],
        "long": ["bytes=0-100007", rest],
        "sizeless": ["bytes=0-100007", rest],
    }
    assert {request.headers["authorization"] for request in hub.requests} == {f"Bearer {TOKEN}"}
    assert all(request.headers["user-agent"].startswith("moeplan/") for request in hub.requests)
    assert ran.stderr == ""


def test_the_index_tells_how_long_headers_are(hub: FakeHub, tmp_path: Path) -> None:
    files = sharded(3, 9000)
    headers = [len(file.data) for file in files.values() if isinstance(file, File)]
    assert min(headers) > 300_000
    hub.add("org/wide", config=CONFIG, files=files)
    (told,) = ask(tmp_path, hub.url, "org/wide").told
    assert told.answer["num_tensors"] == 9000
    assert sum("range" in request.headers for request in hub.requests) == 3
    assert hub.sent_bytes < 1.4 * sum(headers) + len(files[INDEX]) + 10_000


def test_a_server_that_ignores_ranges_does_not_send_its_weights(hub: FakeHub, tmp_path: Path) -> None:
    hub.add(
        "org/whole",
        config=CONFIG,
        files={"model.safetensors": shard(SMALL, padding_bytes=200_000)._replace(size_bytes=None)},
    )
    large = shard({"w": ("BF16", (2**20, 1000), 2**21 * 1000)}, padding_bytes=200_000)
    hub.add("org/proxied", config=CONFIG, files={"model.safetensors": large}, ranges=False)
    (told,) = ask(tmp_path, hub.url, "org/proxied").told
    assert told.answer["num_bytes"] == 2**21 * 1000
    assert hub.sent_bytes < 32 * 2**20  # what lay in the buffers of the connection when it was closed


def test_shards_are_read_side_by_side(hub: FakeHub, tmp_path: Path) -> None:
    files = sharded(48, 480)
    slow = {file: Fault(wait_s=0.25) for file in files if file.endswith(".safetensors")}
    hub.add("org/far", config=CONFIG, files=files, faults=slow)
    (told,) = ask(tmp_path, hub.url, "org/far").told
    assert told.answer["num_tensors"] == 480
    assert told.took_s < 48 * 0.25 / 2


def test_the_token_does_not_follow_weights_to_another_server(hub: FakeHub, tmp_path: Path) -> None:
    with fake_hub() as storage:
        file = shard(SMALL, padding_bytes=200_000)
        storage.add("store/blobs", files={"abc": file}, revisions=("main",))
        away = file._replace(elsewhere=f"{storage.url}/store/blobs/resolve/main/abc?signature=secret")
        hub.add("org/model", config=CONFIG, files={"model.safetensors": away})
        (told,) = ask(tmp_path, hub.url, "org/model", HF_TOKEN=TOKEN).told
        assert told.answer["digest"] == digest(stored(SMALL, "model.safetensors"))
        assert {request.headers["authorization"] for request in hub.requests} == {f"Bearer {TOKEN}"}
        assert [request.headers["range"] for request in storage.requests] == [
            "bytes=0-100007",
            f"bytes=100008-{len(file.data) - 1}",
        ]
        assert all("authorization" not in request.headers for request in storage.requests)


def test_two_runs_at_once_read_the_same_and_leave_a_whole_cache(hub: FakeHub, tmp_path: Path) -> None:
    files = sharded(8, 2000)
    hub.add("org/model", config=CONFIG, files=files, fault=Fault(wait_s=0.05))
    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(lambda _: ask(tmp_path, hub.url, "org/model"), range(4)))
    digests = {run.told[0].answer["digest"] for run in ran}
    assert len(digests) == 1
    assert [run.stderr for run in ran] == [""] * 4
    assert not [name for name in kept_files(tmp_path) if ".part-" in name]
    asked_before = len(hub.requests)
    (after,) = ask(tmp_path, hub.url, "org/model").told
    assert {after.answer["digest"]} == digests
    assert len(hub.requests) == asked_before


def test_a_broken_cache_is_read_and_written_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/model", config=CONFIG, files=two_shards())
    (first,) = ask(tmp_path, hub.url, "org/model").told
    whole = kept_files(tmp_path)
    folder = tmp_path / "cache" / "moeplan"
    for damage in (b"", b"\x1f\x8b", b"[]", b'{"format": 1}'):
        for name in whole:
            (folder / name).write_bytes(damage)
        (again,) = ask(tmp_path, hub.url, "org/model").told
        assert again.answer["digest"] == first.answer["digest"]
        assert again.answer["remarks"] == []
        repaired = kept_files(tmp_path)
        refs = {name for name in whole if "/refs/" in name}
        assert {name: repaired[name] for name in whole if name not in refs} == {
            name: data for name, data in whole.items() if name not in refs
        }


def test_a_home_that_cannot_be_written_is_a_remark(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/model", config=CONFIG, files=two_shards())
    (tmp_path / "file").write_text("")
    (told,) = ask(tmp_path, hub.url, "org/model", XDG_CACHE_HOME=str(tmp_path / "file")).told
    assert told.answer["num_tensors"] == 2
    assert "cache-not-written" in told.answer["remarks"]
    assert kept_files(tmp_path) == {}


def test_a_full_disk_is_a_remark_and_leaves_no_part_of_a_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/model", config=CONFIG, files=sharded(2, 2000))
    _, told = ask_child(tmp_path, hub.url, ("full_disk",), ("headers", "org/model", None, False)).told
    assert told.answer["num_tensors"] == 2000
    assert told.answer["remarks"] == ["cache-not-written"]
    kept = kept_files(tmp_path)
    assert {name.rpartition("/")[2] for name in kept} == {"main.json", "files.json", "file-config.json"}


def test_an_interrupted_run_ends_at_once_and_keeps_what_was_whole(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/model", config=CONFIG, files=two_shards(), faults={SECOND: Fault(wait_s=60)})
    code = f"""
from moeplan.sources.hub.headers import fetch_checkpoint
import _thread
fetch_checkpoint("org/model", "{COMMIT}", progress=lambda done, total: done and _thread.interrupt_main())
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    began_s = time.monotonic()
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert time.monotonic() - began_s < MOST_S / 2
    assert child.stderr.endswith("KeyboardInterrupt\n")
    assert {name.rpartition("/")[2] for name in kept_files(tmp_path)} == {"files.json"}


def test_offline_without_headers_says_so(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/model", config=CONFIG, files=two_shards())
    ask_child(tmp_path, hub.url, ("config", "org/model", None, False))
    (told,) = ask(tmp_path, hub.url, "org/model", offline=True).told
    assert told.message.startswith(
        f"org/model@{COMMIT[:12]}: its headers are not in the local cache, and --offline forbids"
    )
    assert told.code == EXIT_UNKNOWN
    assert told.sockets == []


def test_weights_that_were_downloaded_serve_their_headers(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name, file in two_shards().items():
        data = file.data.ljust(file.length_bytes, b"\0") if isinstance(file, File) else file
        (snapshot / name).write_bytes(data)
    question = ("bare_headers", "org/model", COMMIT, True)
    (told,) = ask_child(tmp_path, "http://127.0.0.1:9", question).told
    assert told.answer["num_bytes"] == 64
    assert told.answer["remarks"] == []
    assert told.sockets == []
    (snapshot / "model-00002-of-00002.safetensors").unlink()
    (half,) = ask_child(tmp_path, "http://127.0.0.1:9", question).told
    assert half.code == EXIT_UNKNOWN
    assert "not in the local cache" in half.message


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
HUGE = (10**18).to_bytes(8, "little")

# name: (files, faults, words of the message, words of the hint, exit code)
FAILURES: dict[str, tuple[dict[str, File | bytes], dict[str, Fault], tuple[str, ...], str, int]] = {
    "org/cut": (two_shards(), {SECOND: Fault(after_bytes=20)}, ("the connection broke off",), "moeplan models", EXIT_UNKNOWN),
    "org/fault": (two_shards(), {SECOND: Fault(500)}, ("a fault of its own (500)",), "try again later", EXIT_UNKNOWN),
    "org/limited": (two_shards(), {FIRST: RATE_LIMIT}, ("429",), "wait 55 s", EXIT_UNKNOWN),
    "org/limited-mute": (two_shards(), {FIRST: Fault(429)}, ("429",), "wait a few minutes", EXIT_UNKNOWN),
    "org/gated": (two_shards(), {FIRST: Fault(403, "GatedRepo")}, ("org/gated is gated",), "ask for access", EXIT_UNKNOWN),
    "org/gone": (two_shards(), {FIRST: Fault(404, "EntryNotFound")}, ("answers 404",), "moeplan models", EXIT_UNKNOWN),
    "org/short": (two_shards(File(b"\x05\0")), {}, (SECOND, "at byte 0", "file"), "download", EXIT_INPUT),
    "org/hollow": (two_shards(File(b"")), {}, (SECOND, "at byte 0", "file"), "download", EXIT_INPUT),
    "org/huge": (two_shards(File(HUGE, 10**12)), {}, (SECOND, "at byte 0", "1,000,000,000,000,000,000"), "download", EXIT_INPUT),
    "org/truncated": (
        two_shards(shard({"b.weight": ("BF16", (4, 4), 32)})._replace(size_bytes=90)), {}, (SECOND, "truncated"), "download", EXIT_INPUT,
    ),
    "org/no-json": (two_shards(File((4).to_bytes(8, "little") + b"{{{{")), {}, (SECOND, "broken JSON"), "download", EXIT_INPUT),
    "org/missing-shard": (
        {name: file for name, file in two_shards().items() if name != SECOND}, {}, (SECOND, "missing"), "download", EXIT_INPUT,
    ),
    "org/broken-index": ({**two_shards(), INDEX: b"{"}, {}, (INDEX, "broken JSON"), "JSON", EXIT_INPUT),
    "org/empty-index": ({**two_shards(), INDEX: b"{}"}, {}, ("no weight_map",), "download", EXIT_INPUT),
}  # fmt: skip


def test_each_failure_has_its_words_and_leaves_nothing_half_written(hub: FakeHub, tmp_path: Path) -> None:
    for name, (files, faults, *_) in FAILURES.items():
        hub.add(name, config=CONFIG, files=files, faults=faults)
    ran = ask(tmp_path, hub.url, *FAILURES, HF_TOKEN=TOKEN)
    for told, (name, (_, _, message, hint, code)) in zip(ran.told, FAILURES.items(), strict=True):
        assert [words for words in message if words not in told.message] == [], (name, told.message)
        assert hint in told.hint, (name, told.hint)
        assert told.code == code, (name, told.message)
        assert "\n" not in told.message + told.hint
        assert told.took_s < MOST_S
    assert ran.stderr == ""
    kept = kept_files(tmp_path)
    assert not [name for name in kept if "headers-" in name or ".part-" in name]
    assert len([name for name in kept if name.endswith("files.json")]) == len(FAILURES)


def test_what_passes_by_itself_is_asked_for_once_more(hub: FakeHub, tmp_path: Path) -> None:
    passing = {
        "org/cut": Fault(after_bytes=20, times=1),
        "org/fault": Fault(503, times=1),
        "org/limited": Fault(429, headers={"Retry-After": "1"}, times=1),
    }
    for name, fault in passing.items():
        hub.add(name, config=CONFIG, files=two_shards(), faults={SECOND: fault})
    ran = ask(tmp_path, hub.url, *passing)
    assert [told.answer["num_tensors"] for told in ran.told] == [2, 2, 2]


def test_a_shard_that_hangs_or_drips_is_told_in_under_ten_seconds(hub: FakeHub, tmp_path: Path) -> None:
    faults = {"org/hangs": Fault(wait_s=60), "org/drips": Fault(drip_s=1)}
    for name, fault in faults.items():
        hub.add(name, config=CONFIG, files=two_shards(), faults={SECOND: fault})

    def one(name: str) -> Told:
        return ask(tmp_path / name, hub.url, name).told[0]

    with ThreadPoolExecutor(2) as pool:
        hangs, drips = pool.map(one, faults)
    assert hangs.message.endswith("cannot be reached: no answer within 5 s")
    assert drips.message.endswith("was silent for 7 s")
    for told in (hangs, drips):
        assert told.code == EXIT_UNKNOWN
        assert told.took_s < MOST_S


def test_a_dead_hub_is_told_at_once(tmp_path: Path) -> None:
    (told,) = ask_child(
        tmp_path, f"http://127.0.0.1:{closed_port()}", ("bare_headers", "org/model", COMMIT, False), HF_TOKEN=TOKEN
    ).told
    assert told.message.endswith("cannot be reached: Connection refused")
    assert told.code == EXIT_UNKNOWN
    assert told.took_s < MOST_S / 2


def test_unusual_repositories(hub: FakeHub, tmp_path: Path) -> None:
    weights = shard(SMALL)
    index = {"metadata": {}, "weight_map": {"a.weight": FIRST, "elsewhere": FIRST, "b.weight": SECOND}}
    layouts: dict[str, dict[str, File | bytes]] = {
        "org/bin-only": {"pytorch_model-00001-of-00002.bin": File(b"", 10**9), "pytorch_model-00002-of-00002.bin": b""},
        "org/gguf-beside": {"model-Q8_0.gguf": File(b"GGUF", 8 * 10**9)},
        "org/nothing": {},
        "org/variants": {"model.safetensors": weights, "model.fp16.safetensors": weights},
        "org/consolidated": {"consolidated.safetensors": weights, **two_shards()},
        "org/maker": {"original/model-00001-of-00001.safetensors": weights, "model.safetensors": weights},
        "org/adapter-beside": {"adapter_model.safetensors": weights, "model.safetensors": weights},
        "org/wrong-index": {**two_shards(), INDEX: json.dumps(index).encode()},
    }
    for name, files in layouts.items():
        hub.add(name, config=CONFIG, files=files)
    answers = {name: told.answer for name, told in zip(layouts, ask(tmp_path, hub.url, *layouts).told, strict=True)}
    assert {name: answer["remarks"] for name, answer in answers.items()} == {
        "org/bin-only": ["bin-only"],
        "org/gguf-beside": ["gguf-only"],
        "org/nothing": ["no-model-files"],
        "org/variants": ["other-checkpoints"],
        "org/consolidated": ["other-checkpoints"],
        "org/maker": [],
        "org/adapter-beside": ["adapter-left-out"],
        "org/wrong-index": ["index-disagrees"],
    }
    assert "model-Q8_0.gguf (8.0 GB)" in answers["org/gguf-beside"]["messages"][0]
    whole = sum(num_bytes for _, _, num_bytes in SMALL.values())
    assert answers["org/variants"]["num_bytes"] == answers["org/maker"]["num_bytes"] == whole
    assert answers["org/consolidated"]["files"] == [FIRST, SECOND]

    (picked,) = ask_child(
        tmp_path, hub.url, ("headers", "org/consolidated", None, False, "consolidated.safetensors")
    ).told
    assert picked.answer["files"] == ["consolidated.safetensors"]
    assert picked.answer["num_bytes"] == whole
    (again,) = ask(tmp_path, hub.url, "org/consolidated").told
    assert again.answer["files"] == [FIRST, SECOND]  # each choice is kept for itself
    (absent,) = ask_child(tmp_path, hub.url, ("headers", "org/variants", None, False, "model.fp8.safetensors")).told
    assert absent.code == EXIT_INPUT
    assert "model.fp16.safetensors" in absent.hint


def test_an_adapter_with_a_config_names_its_base(hub: FakeHub, tmp_path: Path) -> None:
    adapter: dict[str, File | bytes] = {
        "adapter_config.json": b'{"base_model_name_or_path": "org/base"}',
        "adapter_model.safetensors": shard(SMALL),
    }
    hub.add("org/lora", config=CONFIG, files=adapter)
    (told,) = ask(tmp_path, hub.url, "org/lora").told
    assert told.code == EXIT_INPUT
    assert "org/base" in told.message
    assert "org/base" in told.hint


def test_gguf_is_read_in_blocks_and_kept(hub: FakeHub, tmp_path: Path) -> None:
    data = bytes(place * 7 % 251 for place in range(3 * 2**20 + 100))
    hub.add("org/GGUF", files={"m-Q4_K_M.gguf": File(data, 18 * 10**9), "m-IQ3_XXS.gguf": b"GGU"})
    spans = ((0, 1024), (1024, 2**20), (2**20 - 5, 10), (2**21 + 5, 2**20), (18 * 10**9 - 4, 100), (18 * 10**9, 4))
    question = ("gguf", "org/GGUF", None, False, "m-Q4_K_M.gguf", *spans)
    (told,) = ask_child(tmp_path, hub.url, question).told
    assert told.answer["file_bytes"] == 18 * 10**9
    assert [bytes.fromhex(part) for part in told.answer["parts"]] == [
        *(data[first : first + length] for first, length in spans[:4]),
        b"\0\0\0\0",
        b"",
    ]
    assert [model["quant"] for model in told.answer["models"]] == ["IQ3_XXS", "Q4_K_M"]
    assert hub.sent_bytes < 6 * 2**20
    assert len(hub.requests) == 1 + 4
    (offline,) = ask_child(tmp_path, hub.url, (*question[:3], True, *question[4:])).told
    assert offline.answer["parts"] == told.answer["parts"]
    assert offline.sockets == []
    (unread,) = ask_child(tmp_path, hub.url, (*question[:3], True, "m-IQ3_XXS.gguf", (0, 3))).told
    assert unread.code == EXIT_UNKNOWN
    (wrong,) = ask_child(tmp_path, hub.url, ("gguf", "org/GGUF", None, False, "m-Q9.gguf")).told
    assert wrong.code == EXIT_INPUT
    assert "m-Q4_K_M.gguf (18.0 GB)" in wrong.hint


def test_an_answer_that_is_no_hubs(hub: FakeHub, tmp_path: Path) -> None:
    odd = {"Content-Range": "bytes 5-9/100"}
    hub.add("org/odd", config=CONFIG, files=two_shards(), faults={FIRST: Fault(206, headers=odd)})
    (told,) = ask(tmp_path, hub.url, "org/odd").told
    assert "does not answer as a Hub does" in told.message
    assert told.code == EXIT_UNKNOWN
