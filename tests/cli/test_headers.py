"""`moeplan estimate` beside a Hub that speaks HTTP, and beside checkpoints on disk: each run is a process of its own.

Names and shapes are those of published checkpoints (`tests/data/published_tensors`), or of a small model in the names
that Mixtral was published with.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import pytest

from tests.checkpoint_stubs import Published, published
from tests.cli.conftest import ROOT, Run
from tests.report.schemas import Schema
from tests.sources.fake_hub import (
    COMMIT,
    GATED_SIGNED_IN,
    GATED_SIGNED_OUT,
    PRIVATE,
    RATE_LIMIT,
    FakeHub,
    Fault,
    File,
    closed_port,
    fake_hub,
    shard,
)
from tests.sources.gguf_files import write

TOKEN = "hf_secretSecretSecret"
SCHEMA = Schema("estimate")
Q8 = gguf.GGMLQuantizationType.Q8_0
Files = dict[str, File | bytes]


# Running it ------------------------------------------------------------------------------------------------


class Ran(NamedTuple):
    """What one run said, and how it ended."""

    code: int
    out: str
    err: str
    took_s: float

    @property
    def json(self) -> dict[str, Any]:
        """The answer of a run with --json, held to its schema."""
        assert self.code == 0, self.err
        assert not SCHEMA.complaints(self.out)
        answer: dict[str, Any] = json.loads(self.out)
        return answer

    @property
    def prose(self) -> str:
        """All that was said, without the line breaks of a page."""
        return " ".join((self.out + self.err).split())

    def notes(self, code: str) -> list[tuple[str, str]]:
        """(severity, message) of the notes with that code."""
        return [(note["severity"], note["message"]) for note in self.json["notes"] if note["code"] == code]


def environment(home: Path, endpoint: str, **more: str) -> dict[str, str]:
    """Variables of a user whose home is `home`, who has a token and whose Hub is `endpoint`."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return inherited | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def estimate(home: Path, endpoint: str, *words: str, **more: str) -> Ran:
    """`python -m moeplan estimate`. Whatever it says, it never says the token."""
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "moeplan", "estimate", *words],
        env=environment(home, endpoint, **more),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert TOKEN not in done.stdout + done.stderr
    return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - began_s)


def side_by_side(home: Path, endpoint: str, questions: Sequence[Sequence[str]]) -> list[Ran]:
    """The answers to several questions: runs wait more than they work."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda words: estimate(home, endpoint, *words), questions))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        yield running


# What the Hub holds ----------------------------------------------------------------------------------------


def sharded(checkpoint: Published, num_shards: int = 3) -> Files:
    """A published layout in shards of equal numbers of tensors, with an index."""
    tensors = checkpoint.checkpoint.tensors
    files: Files = {}
    index: dict[str, str] = {}
    for number in range(num_shards):
        part = tensors[number * len(tensors) // num_shards : (number + 1) * len(tensors) // num_shards]
        name = f"model-{number + 1:05}-of-{num_shards:05}.safetensors"
        files[name] = shard({each.name: (each.dtype, each.shape, each.num_bytes) for each in part})
        index |= {each.name: name for each in part}
    return files | {"model.safetensors.index.json": json.dumps({"weight_map": index}).encode()}


SMALL: dict[str, Any] = {
    "model_type": "mixtral",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128,
}


@cache
def small_shapes() -> Mapping[str, tuple[int, ...]]:
    """Tensors of SMALL, as Mixtral names them."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (128, 64),
        "model.norm.weight": (64,),
        "lm_head.weight": (128, 64),
    }
    for layer in ("model.layers.0", "model.layers.1"):
        shapes |= {f"{layer}.{name}_layernorm.weight": (64,) for name in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (64, 64) for name in "qo"}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (32, 64) for name in "kv"}
        shapes[f"{layer}.block_sparse_moe.gate.weight"] = (4, 64)
        for expert in range(4):
            stem = f"{layer}.block_sparse_moe.experts.{expert}"
            shapes |= {f"{stem}.{name}.weight": (96, 64) for name in ("w1", "w3")} | {f"{stem}.w2.weight": (64, 96)}
    return shapes


SMALL_BYTES = 2 * sum(map(prod, small_shapes().values()))


def small_shard(extra_bytes: int = 0, extra: str = "model.extra.weight") -> File:
    """All of SMALL in one file, and a tensor that no Mixtral has."""
    tensors = {name: ("BF16", shape, 2 * prod(shape)) for name, shape in small_shapes().items()}
    if extra_bytes:
        tensors[extra] = ("BF16", (extra_bytes // 2,), extra_bytes)
    return shard(tensors)


def small_shards(num_shards: int = 3) -> Files:
    """SMALL in shards, with an index."""
    names = list(small_shapes())
    files: Files = {}
    index: dict[str, str] = {}
    for number in range(num_shards):
        file = f"model-{number + 1:05}-of-{num_shards:05}.safetensors"
        held = names[number::num_shards]
        files[file] = shard({name: ("BF16", small_shapes()[name], 2 * prod(small_shapes()[name])) for name in held})
        index |= dict.fromkeys(held, file)
    return files | {"model.safetensors.index.json": json.dumps({"weight_map": index}).encode()}


GGUF_VALUES: dict[str, Any] = {
    "block_count": 2,
    "context_length": 512,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "expert_count": 4,
    "expert_used_count": 2,
    "vocab_size": 128,
    "general.file_type": 7,
}


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SMALL as llama.cpp's converter writes it: matrices in Q8_0, in one file and in two parts."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (128, 64),
        "output_norm.weight": (64,),
        "output.weight": (128, 64),
    }
    for layer in ("blk.0", "blk.1"):
        shapes |= {f"{layer}.{name}_norm.weight": (64,) for name in ("attn", "ffn")}
        shapes |= {f"{layer}.attn_{name}.weight": (64, 64) for name in ("q", "output")}
        shapes |= {f"{layer}.attn_{name}.weight": (32, 64) for name in "kv"}
        shapes[f"{layer}.ffn_gate_inp.weight"] = (4, 64)
        shapes |= {f"{layer}.ffn_{name}_exps.weight": (4, 96, 64) for name in ("gate", "up")}
        shapes[f"{layer}.ffn_down_exps.weight"] = (4, 64, 96)
    types = {name: Q8 for name, shape in shapes.items() if len(shape) > 1 and "gate_inp" not in name}
    folder = tmp_path_factory.mktemp("gguf")
    write(folder / "small-Q8_0.gguf", "llama", GGUF_VALUES, shapes, types)
    write(folder / "split-Q8_0.gguf", "llama", GGUF_VALUES, shapes, types, split_max_tensors=len(shapes) // 2 + 1)
    return folder


GGUF_BYTES = sum(
    prod(shape) * 4 if len(shape) == 1 or "gate.weight" in name else prod(shape) // 32 * 34
    for name, shape in small_shapes().items()
)
"""Q8_0 stores 32 weights in 34 bytes (gguf-py 0.19.0 GGML_QUANT_SIZES); norms and the router stay F32."""


# A model on the Hub ----------------------------------------------------------------------------------------


def test_a_hub_id_is_exact_pinned_and_asked_for_once(hub: FakeHub, tmp_path: Path) -> None:
    mixtral = published("mixtral-8x7b")
    hub.add("org/mixtral", config=mixtral.config, files=sharded(mixtral))

    first = estimate(tmp_path, hub.url, "org/mixtral", "--json")
    model, weights = first.json["model"], first.json["weights"]
    assert first.err == ""
    assert (model["source_kind"], model["revision"], model["id"]) == ("headers", COMMIT, "org/mixtral")
    assert (weights["basis"], weights["checkpoint_bytes"]) == ("exact", mixtral.total_bytes)
    assert sum(weights["by_role"].values()) == mixtral.total_bytes
    assert [severity for severity, _ in first.notes("headers")] == ["info"]
    assert any(f": main is commit {COMMIT}" in message for _, message in first.notes("revision"))
    assert {request.headers.get("authorization") for request in hub.requests} == {f"Bearer {TOKEN}"}
    assert {request.path.partition("/resolve/")[2][:40] for request in hub.requests[1:]} == {COMMIT}

    num_requests = len(hub.requests)
    table = estimate(tmp_path, hub.url, "org/mixtral", "--gpu", "2xh100-sxm")
    offline = estimate(tmp_path, hub.url, "org/mixtral", "--json", "--offline")
    by_variable = estimate(tmp_path, hub.url, "org/mixtral", "--json", HF_HUB_OFFLINE="1")
    assert len(hub.requests) == num_requests
    assert (table.code, table.err) == (0, "")
    assert COMMIT in table.prose
    assert "from checkpoint headers" in table.prose
    assert re.search(r"weights: routed experts .* exact$", table.out, re.MULTILINE)
    for later in (offline, by_variable):
        assert (later.json["model"]["revision"], later.json["weights"]) == (COMMIT, weights)
        assert COMMIT in later.notes("revision")[0][1]

    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert {path.parts[:3] for path in written} == {(".cache", "moeplan", "hub")}
    assert TOKEN.encode() not in b"".join((tmp_path / path).read_bytes() for path in written)


@pytest.mark.parametrize(("words", "variables"), [(["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})])
def test_offline_without_a_cache_says_so(
    words: list[str], variables: dict[str, str], hub: FakeHub, tmp_path: Path
) -> None:
    hub.add("org/small", config=SMALL, files={"model.safetensors": small_shard()})
    ran = estimate(tmp_path, hub.url, "org/small", *words, **variables)
    forbidding = words[0] if words else "HF_HUB_OFFLINE"
    assert (ran.code, ran.out, hub.requests) == (3, "", [])
    assert f"org/small: its config is not in the local cache, and {forbidding} forbids asking" in ran.err
    assert f" hint: run once without {forbidding}, or give a local config.json" in ran.err


def test_ways_to_name_a_revision(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/tagged", config=SMALL, files=small_shards(), revisions=("v1.0",))  # asked for main it refuses
    assert estimate(tmp_path, hub.url, "org/tagged").code == 2
    ways = [
        "org/tagged@v1.0",
        "hf://org/tagged@v1.0",
        "org/tagged --revision v1.0",
        "https://huggingface.co/org/tagged/tree/v1.0",
        "https://huggingface.co/org/tagged/blob/v1.0/README.md?plain=1#use",
        f"{hub.url}/org/tagged/tree/v1.0",
        f"org/tagged@{COMMIT}",
    ]
    for way, ran in zip(ways, side_by_side(tmp_path, hub.url, [[*way.split(), "--json"] for way in ways]), strict=True):
        assert (ran.json["model"]["id"], ran.json["model"]["revision"]) == ("org/tagged", COMMIT), way
        assert ran.json["weights"]["checkpoint_bytes"] == SMALL_BYTES, way


def test_a_catalogue_name_asks_nobody_until_it_must(hub: FakeHub, tmp_path: Path) -> None:
    gpt_oss = published("gpt-oss-20b")
    hub.add("openai/gpt-oss-20b", config=gpt_oss.config, files=sharded(gpt_oss), revisions=("main", "v2"))
    known = estimate(tmp_path, hub.url, "openai/gpt-oss-20b", "--json")
    assert hub.requests == []
    assert (known.json["model"]["source_kind"], known.json["weights"]["basis"]) == ("catalogue", "derived")
    assert any("--headers reads the checkpoint" in note["message"] for note in known.json["notes"])
    assert not list(tmp_path.rglob("*.json"))

    read = estimate(tmp_path, hub.url, "gpt-oss-20b", "--headers", "--json").json
    assert read["model"]["source_kind"] == "headers"
    assert (read["weights"]["basis"], read["weights"]["checkpoint_bytes"]) == ("exact", gpt_oss.total_bytes)
    assert read["weights"]["by_format"].keys() >= {"mxfp4", "bf16"}

    at = estimate(tmp_path, hub.url, "gpt-oss-20b", "--revision", "v2", "--json").json
    assert (at["model"]["id"], at["model"]["source_kind"]) == ("openai/gpt-oss-20b", "headers")
    assert "GET /api/models/openai/gpt-oss-20b/revision/v2?blobs=true" in hub.asked("openai/gpt-oss-20b")


@pytest.mark.parametrize(
    ("name", "format"), [("llama-4-scout-fp8-dynamic", "fp8"), ("deepseek-v3", "fp8"), ("qwen3-235b-nvfp4", "nvfp4")]
)
def test_quantised_checkpoints_are_exact(name: str, format: str, hub: FakeHub, tmp_path: Path) -> None:  # noqa: A002
    layout = published(name)
    hub.add("org/quantised", config=layout.config, sidecar=layout.sidecar, files=sharded(layout))
    ran = estimate(tmp_path, hub.url, "org/quantised", "--json", "--context", "512")
    weights = ran.json["weights"]
    assert (weights["basis"], weights["checkpoint_bytes"]) == ("exact", layout.checkpoint.num_bytes)
    assert max(weights["by_format"], key=weights["by_format"].__getitem__).startswith(format)
    assert [severity for severity, _ in ran.notes("headers")] == ["info"]
    assert not ran.notes("tensors-unmatched")
    assert not ran.notes("tensors-missing")


def test_what_if_another_format_keeps_what_the_checkpoint_is(hub: FakeHub, tmp_path: Path) -> None:
    mixtral = published("mixtral-8x7b")
    hub.add("org/mixtral", config=mixtral.config, files=sharded(mixtral))
    told = estimate(tmp_path, hub.url, "org/mixtral", "--quant", "fp8", "--json").json
    assert told["weights"]["checkpoint_bytes"] == mixtral.total_bytes
    assert told["weights"]["basis"] == "derived"
    assert 0.5 < told["weights"]["resident_bytes"] / mixtral.checkpoint.num_bytes < 0.51  # embedding and head stay
    assert told["model"]["source_kind"] == "headers"


# Where config and checkpoint differ ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "code", "severity"), [(0.004, "headers", "info"), (0.006, "headers-differ", "warning")]
)
def test_differences_are_told_and_above_half_a_percent_are_warnings(
    share: float, code: str, severity: str, hub: FakeHub, tmp_path: Path
) -> None:
    extra_bytes = round(SMALL_BYTES * share / 2) * 2
    hub.add("org/more", config=SMALL, files={"model.safetensors": small_shard(extra_bytes)})
    ran = estimate(tmp_path, hub.url, "org/more", "--json")
    assert ran.json["weights"]["checkpoint_bytes"] == SMALL_BYTES + extra_bytes
    assert [found for found, _ in ran.notes(code)] == [severity]
    assert f"(+{share:.2%})" in ran.notes(code)[0][1]
    assert len(ran.notes("headers") + ran.notes("headers-differ")) == 1
    ((severity, message),) = ran.notes("tensors-unmatched")
    assert severity == "warning"
    assert "model.extra.weight" in message
    assert f"{extra_bytes:,}" in message
    assert ran.json["weights"]["by_role"]["other"] == extra_bytes


# Unusual repositories --------------------------------------------------------------------------------------


def test_a_repository_of_gguf_files(hub: FakeHub, gguf_folder: Path, tmp_path: Path) -> None:
    hub.add("org/gguf", files={path.name: path.read_bytes() for path in gguf_folder.iterdir()})
    none_named = estimate(tmp_path, hub.url, "org/gguf")
    assert none_named.code == 2
    assert "org/gguf holds 2 GGUF models and no config.json" in none_named.err
    assert re.search(
        r"hint: name one with --file: .*small-Q8_0\.gguf .*split-Q8_0-00001-of-00002\.gguf", none_named.err
    )

    files = ("small-Q8_0.gguf", "split-Q8_0-00001-of-00002.gguf", "split-Q8_0-00002-of-00002.gguf")
    for ran in side_by_side(tmp_path, hub.url, [["org/gguf", "--file", file, "--json"] for file in files]):
        told = ran.json
        assert (told["model"]["source_kind"], told["model"]["revision"]) == ("gguf", COMMIT)
        assert (told["weights"]["basis"], told["weights"]["checkpoint_bytes"]) == ("exact", GGUF_BYTES)
        assert told["parameters"]["total"] == SMALL_BYTES // 2

    num_requests = len(hub.requests)
    page = f"{hub.url}/org/gguf/blob/main/small-Q8_0.gguf"
    ways = [["org/gguf", "--file", "small-Q8_0.gguf", "--offline", "--json"], [page, "--json"]]
    for again in (ran.json for ran in side_by_side(tmp_path, hub.url, ways)):
        assert (again["model"]["source_kind"], again["weights"]["checkpoint_bytes"]) == ("gguf", GGUF_BYTES)
    assert len(hub.requests) == num_requests

    absent = estimate(tmp_path, hub.url, "org/gguf", "--file", "other.gguf")
    assert absent.code == 2
    assert "holds no file other.gguf" in absent.err
    assert "small-Q8_0.gguf" in absent.err


def test_files_of_which_nothing_tells_what_is_the_model(hub: FakeHub, tmp_path: Path) -> None:
    extra_bytes = 1024
    files: Files = {"a.safetensors": small_shard(), "b.safetensors": small_shard(extra_bytes)}
    hub.add("org/several", config=SMALL, files=files)
    unsaid = estimate(tmp_path, hub.url, "org/several", "--json")
    assert (unsaid.json["model"]["source_kind"], unsaid.json["weights"]["basis"]) == ("config", "derived")
    ((severity, message),) = unsaid.notes("checkpoint-ambiguous")
    assert severity == "warning"
    assert message.startswith("weights are derived from the config: ")
    assert "a.safetensors, b.safetensors; --file" in message
    for file, expected in (("a.safetensors", SMALL_BYTES), ("b.safetensors", SMALL_BYTES + extra_bytes)):
        told = estimate(tmp_path, hub.url, "org/several", "--file", file, "--json").json
        assert (told["weights"]["basis"], told["weights"]["checkpoint_bytes"]) == ("exact", expected)


def broken(hub: FakeHub) -> None:
    """Repositories that cannot be read, or not by their headers."""
    whole = small_shards()
    middle = "model-00002-of-00003.safetensors"
    held = whole[middle]
    assert isinstance(held, File)
    adapter: Files = {
        "adapter_model.safetensors": shard({"lora": ("BF16", (2, 2), 8)}),
        "adapter_config.json": b'{"base_model_name_or_path": "org/base"}',
    }
    outside = {"model.safetensors.index.json": b'{"weight_map": {"lm_head.weight": "../../secret.safetensors"}}'}
    hub.add("org/bin", config=SMALL, files={"pytorch_model.bin": File(b"", 10**9)})
    hub.add("org/bare", config=SMALL)
    hub.add("org/adapter", files=adapter)
    hub.add("org/adapter-with-config", config=SMALL, files=adapter)
    hub.add("org/lacking", config=SMALL, files={name: file for name, file in whole.items() if name != middle})
    hub.add("org/outside", config=SMALL, files=whole | outside)
    hub.add("org/cut", config=SMALL, files=whole | {middle: File(held.data[:500])})
    hub.add("org/whole", config=SMALL, files=whole)
    hub.add("org/gated", fault=GATED_SIGNED_OUT)
    hub.add("org/refused", fault=GATED_SIGNED_IN)
    hub.add("org/private", fault=PRIVATE)
    hub.add("org/limited", fault=RATE_LIMIT)


NOT_READ: dict[str, tuple[int, str, str]] = {
    # words: exit code, and parts of the message and of the hint in order
    "org/adapter": (2, "org/adapter is an adapter of org/base", "give its base model org/base"),
    "org/adapter-with-config": (2, "adapter_model.safetensors is an adapter of org/base", "give org/base"),
    "org/lacking": (
        2,
        "model-00002-of-00003.safetensors, which is missing",
        "try another --revision; or give .*config",
    ),
    "org/outside": (2, "index.json: the index names '../../secret.safetensors'", "try another --revision"),
    "org/cut": (2, "model-00002-of-00003.safetensors: at byte 500: the header is cut", "try another --revision"),
    "org/whole@nope": (2, "org/whole has no revision 'nope'", "a branch, a tag or a full commit hash"),
    "org/whole --file x.safetensors": (2, "holds no file x.safetensors", "give one of: model-00001-of-00003"),
    "org/bare --file x.safetensors": (2, "holds no file x.safetensors", "leave out --file"),
    "org/whole --file model-00001-of-00003.safetensors": (2, "is one of 3 shards", "leave it out"),
    "org/gated": (3, "org/gated is gated", "ask for access at http.*/org/gated, then set HF_TOKEN"),
    "org/refused": (3, "the account of your token has no access", "ask for access at http.*/org/refused"),
    "org/private": (3, "no such model, or it is private", "set HF_TOKEN or run `hf auth login`"),
    "org/nowhere": (3, "no such model, or it is private", "check the spelling"),
    "org/limited": (3, r"limits how often it may be asked \(429\)", "wait 55 s and try again"),
}


@pytest.fixture(scope="module")
def not_read(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ran]:
    """All of NOT_READ."""
    home = tmp_path_factory.mktemp("home")
    with fake_hub() as hub:
        broken(hub)
        answers = side_by_side(home, hub.url, [words.split() for words in NOT_READ])
    return dict(zip(NOT_READ, answers, strict=True))


@pytest.mark.parametrize("words", NOT_READ)
def test_what_cannot_be_read_is_one_line_and_a_way_out(words: str, not_read: Mapping[str, Ran]) -> None:
    code, message, hint = NOT_READ[words]
    ran = not_read[words]
    assert (ran.code, ran.out) == (code, "")
    assert re.fullmatch(rf"error: .*{message}.*\n hint: .*{hint}.*\n", ran.err), ran.err


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [("org/bin", "bin-only", "pytorch_model.bin"), ("org/bare", "no-model-files", "no weights")],
)
def test_without_headers_the_config_answers_and_says_so(
    name: str, code: str, told: str, hub: FakeHub, tmp_path: Path
) -> None:
    broken(hub)
    ran = estimate(tmp_path, hub.url, name, "--json")
    weights = ran.json["weights"]
    assert (ran.json["model"]["source_kind"], ran.json["model"]["revision"]) == ("config", COMMIT)
    assert (weights["basis"], weights["checkpoint_bytes"]) == ("derived", SMALL_BYTES)
    ((severity, message),) = ran.notes(code)
    assert severity == "warning"
    assert message.startswith("weights are derived from the config: ")
    assert told in message


def test_a_dead_hub_is_told_within_ten_seconds(tmp_path: Path) -> None:
    ran = estimate(tmp_path, f"http://127.0.0.1:{closed_port()}", "org/small")
    assert (ran.code, ran.out) == (3, "")
    assert re.fullmatch(r"error: 127\.0\.0\.1:\d+ cannot be reached: .*\n hint: .*`moeplan models`\n", ran.err)
    assert ran.took_s < 10


def test_a_hub_that_fails_points_to_what_the_cache_holds(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/small", config=SMALL, files=small_shards())
    assert estimate(tmp_path, hub.url, "org/small", "--quiet").code == 0
    (kept,) = tmp_path.rglob("main.json")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"asked_at_s": time.time() - 3700}))  # an hour is over
    hub.add("org/small", config=SMALL, files=small_shards(), fault=Fault(503))
    failed = estimate(tmp_path, hub.url, "org/small")
    assert failed.code == 3
    assert "hint: `--offline` reads the copy in the local cache" in failed.err
    offline = estimate(tmp_path, hub.url, "org/small", "--offline", "--json").json
    assert (offline["weights"]["basis"], offline["weights"]["checkpoint_bytes"]) == ("exact", SMALL_BYTES)


def test_a_broken_cache_is_read_again_and_healed(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/small", config=SMALL, files=small_shards())
    first = estimate(tmp_path, hub.url, "org/small", "--json").json
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    asked = len(hub.requests)
    again = estimate(tmp_path, hub.url, "org/small", "--json").json
    assert len(hub.requests) == 2 * asked
    assert (again["model"], again["weights"]) == (first["model"], first["weights"])
    third = estimate(tmp_path, hub.url, "org/small", "--json").json
    assert len(hub.requests) == 2 * asked
    assert third["weights"] == first["weights"]


def test_a_cache_that_cannot_be_written_is_no_failure(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/small", config=SMALL, files=small_shards())
    (tmp_path / "file").write_text("")
    ran = estimate(tmp_path, hub.url, "org/small", "--json", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert ran.json["weights"]["checkpoint_bytes"] == SMALL_BYTES
    assert ran.notes("cache-not-written")


# On disk ---------------------------------------------------------------------------------------------------


def laid_out(folder: Path, files: Mapping[str, File | bytes]) -> Path:
    """A model folder with SMALL's config and `files` at their full length."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL), encoding="utf-8")
    for name, file in files.items():
        with (folder / name).open("wb") as opened:
            opened.write(file.data if isinstance(file, File) else file)
            opened.truncate(file.length_bytes if isinstance(file, File) else len(file))
    return folder


def test_checkpoints_on_disk(gguf_folder: Path, tmp_path: Path) -> None:
    sharded_folder = laid_out(tmp_path / "sharded", small_shards())
    single = laid_out(tmp_path / "single", {"weights.safetensors": small_shard()})
    both = laid_out(tmp_path / "both", {"a.safetensors": small_shard(), "b.safetensors": small_shard(1024)})
    nowhere = f"http://127.0.0.1:{closed_port()}"
    asked = {
        (str(sharded_folder),): ("headers", SMALL_BYTES),
        (str(single),): ("headers", SMALL_BYTES),
        (str(single / "weights.safetensors"),): ("headers", SMALL_BYTES),
        (str(both), "--file", "b.safetensors"): ("headers", SMALL_BYTES + 1024),
        (str(gguf_folder / "small-Q8_0.gguf"),): ("gguf", GGUF_BYTES),
        (str(gguf_folder / "split-Q8_0-00002-of-00002.gguf"),): ("gguf", GGUF_BYTES),
        (str(gguf_folder), "--file", "small-Q8_0.gguf"): ("gguf", GGUF_BYTES),
    }
    answers = side_by_side(tmp_path, nowhere, [[*words, "--json"] for words in asked])
    for (words, (kind, num_bytes)), ran in zip(asked.items(), answers, strict=True):
        told = ran.json
        assert (told["model"]["source_kind"], told["model"]["revision"]) == (kind, None), words
        assert (told["weights"]["basis"], told["weights"]["checkpoint_bytes"]) == ("exact", num_bytes), words
    assert not (tmp_path / ".cache").exists()


def test_a_config_by_itself_is_read_alone(run: Run, folder: Path) -> None:
    (folder / "mixtral" / "model.safetensors").write_bytes(b"not read")
    told = json.loads(run("estimate", "mixtral/config.json", "--json").out)
    assert (told["model"]["source_kind"], told["weights"]["basis"]) == ("config", "derived")


WRONG_WORDS: dict[str, tuple[str, str]] = {
    "model --revision main": ("model is a local path, which has no revision 'main'", "hf://org/name"),
    "model/config.json --file a.gguf": ("is a file itself", "leave out --file"),
    "model --file z.safetensors": ("model holds no file z.safetensors", "give one of: a.safetensors"),
    "model --file config.json": ("only .safetensors and .gguf files have headers", "leave out --file"),
    "ggufs": ("ggufs holds GGUF files and no config.json", "--file: small-Q8_0.gguf"),
    "cut.gguf": ("cut.gguf: broken GGUF file at byte", "download"),
    "split-Q8_0-00001-of-00002.gguf": ("1 of 2 parts are missing: split-Q8_0-00002-of-00002.gguf", "one folder"),
    "cut": ("model.safetensors: at byte", "download it again"),
    "org/model --file pytorch_model.bin": ("have no header|has no header|no header to read", "leave out --file"),
    "org/model@v1 --revision v2": ("org/model@v1 names 'v1', and --revision names 'v2'", "leave out one"),
    "hf://org/model/a.gguf --file b.gguf": ("names 'a.gguf', and --file names 'b.gguf'", "leave out one"),
    "hf://org": ("'hf://org' names no Hub repository", "write org/name"),
    "https://example.com/org/model": ("names no Hub repository", "write org/name"),
}


@pytest.mark.parametrize("words", WRONG_WORDS)
def test_words_that_cannot_be_meant(words: str, run: Run, folder: Path, gguf_folder: Path) -> None:
    laid_out(folder / "model", {"a.safetensors": small_shard()})
    laid_out(folder / "cut", {"model.safetensors": small_shard().data})
    (folder / "ggufs").mkdir()
    whole = gguf_folder / "small-Q8_0.gguf"
    shutil.copy(whole, folder / "ggufs")
    shutil.copy(gguf_folder / "split-Q8_0-00001-of-00002.gguf", folder)
    (folder / "cut.gguf").write_bytes(whole.read_bytes()[:1000])
    outcome = run("estimate", *words.split())
    message, hint = WRONG_WORDS[words]
    assert (outcome.code, outcome.out) == (2, "")
    assert re.fullmatch(rf"error: .*(?:{message}).*\n hint: .*{hint}.*\n", outcome.err), outcome.err


# The bar ---------------------------------------------------------------------------------------------------


def shown(data: str) -> str:
    """What a terminal shows at the end: text, line feeds, returns, lines up, erased lines; colours and the cursor's
    looks do not matter.
    """
    lines, row, column = [""], 0, 0
    for step in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", data):
        if step == "\r":
            column = 0
        elif step == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif re.fullmatch(r"\x1b\[\d*A", step):
            row -= int(step[2:-1] or 1)
        elif step == "\x1b[2K":
            lines[row] = ""
        elif not step.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + step + lines[row][column + len(step) :]
            column += len(step)
    return "\n".join(lines).strip()


def on_terminal(home: Path, endpoint: str, *words: str, **more: str) -> tuple[int, str, str]:
    """(exit code, stdout, all that came on stderr) of a run whose stderr is a terminal."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "moeplan", "estimate", *words],
        env=environment(home, endpoint, TERM="xterm", **more),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the last writer has closed it
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    out, _ = child.communicate(timeout=60)
    return child.returncode, out, drawn.decode()


Slow = Callable[..., None]


@pytest.fixture
def slow(hub: FakeHub) -> Slow:
    """A Hub that thinks over one of three shards."""

    def make(name: str, fault: Fault) -> None:
        hub.add(name, config=SMALL, files=small_shards(), faults={"model-00003-of-00003.safetensors": fault})

    return make


posix = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
THINKS = Fault(wait_s=1.6, methods=("GET",))


@posix
def test_a_bar_shows_while_a_person_waits_and_is_gone_afterwards(hub: FakeHub, slow: Slow, tmp_path: Path) -> None:
    slow("org/slow", THINKS)
    code, out, drawn = on_terminal(tmp_path, hub.url, "org/slow", "--json")
    assert (code, json.loads(out)["weights"]["basis"]) == (0, "exact")
    assert "reading headers" in drawn
    assert "67%" in drawn  # two of three
    assert shown(drawn) == ""
    assert drawn.rfind("\x1b[?25h") > drawn.rfind("\x1b[?25l")  # the cursor is back


@posix
def test_a_bar_makes_room_for_an_error(hub: FakeHub, slow: Slow, tmp_path: Path) -> None:
    slow("org/slow", Fault(403, wait_s=1.6))
    code, out, drawn = on_terminal(tmp_path, hub.url, "org/slow")
    assert (code, out) == (3, "")
    assert "reading headers" in drawn
    assert re.fullmatch(r"error: org/slow: .* refuses access \(403\)\n hint: .*", shown(drawn))
    assert drawn.rfind("\x1b[?25h") > drawn.rfind("\x1b[?25l")


@posix
@pytest.mark.parametrize(
    ("words", "variables"),
    [(["--quiet"], {}), ([], {"HF_HUB_DISABLE_PROGRESS_BARS": "1"})],
    ids=["--quiet", "HF_HUB_DISABLE_PROGRESS_BARS"],
)
def test_no_bar_for_who_wants_none(
    words: list[str], variables: dict[str, str], hub: FakeHub, slow: Slow, tmp_path: Path
) -> None:
    slow("org/slow", THINKS)
    code, _, drawn = on_terminal(tmp_path, hub.url, "org/slow", *words, **variables)
    assert (code, drawn) == (0, "")


def test_no_bar_in_a_pipe(hub: FakeHub, slow: Slow, tmp_path: Path) -> None:
    slow("org/slow", THINKS)
    ran = estimate(tmp_path, hub.url, "org/slow")
    assert (ran.code, ran.err) == (0, "")
    assert ran.took_s > THINKS.wait_s
