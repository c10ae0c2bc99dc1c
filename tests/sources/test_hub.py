"""config.json from the Hub, asked for by its real client in child processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moeplan.core.errors import EXIT_INPUT, EXIT_UNKNOWN
from moeplan.sources.hub.cache import REMEMBER_S
from moeplan.version import __version__
from tests.sources.fake_hub import (
    BAD_TOKEN,
    COMMIT,
    DESCRIPTION,
    DISABLED,
    GATED_SIGNED_IN,
    GATED_SIGNED_OUT,
    PRIVATE,
    RATE_LIMIT,
    FakeHub,
    Fault,
    File,
    closed_port,
    fake_hub,
)
from tests.sources.hub_child import TOKEN, Ran, ask_child

CONFIG = {"model_type": "mixtral", "hidden_size": 4096}
SIDECAR = {"quantization": {"quant_algo": "NVFP4"}}
MOST_S = 10


def ask(home: Path, endpoint: str, *questions: tuple[str, str | None, bool], **variables: str) -> Ran:
    """Put (name, revision, offline) questions to `fetch_config` in one child process."""
    return ask_child(home, endpoint, *(("config", *question) for question in questions), **variables)


def age_references(home: Path, age_s: float) -> None:
    """Make what is remembered of branches look as if it had been asked for so long ago."""
    kept = list(home.glob("cache/moeplan/hub/*/*/refs/*.json"))
    assert kept
    for path in kept:
        path.write_text(json.dumps({**json.loads(path.read_text()), "asked_at_s": time.time() - age_s}))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        yield running


def test_both_files_come_from_one_commit_and_nothing_else_is_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    weights: dict[str, File | bytes] = {
        "model.safetensors": File(b"", size_bytes=600 * 10**9),
        "tokenizer.json": b"{}",
        "modeling.py": b"raise",
    }
    hub.add("org/plain", config=CONFIG, files=weights)
    hub.add("org/nvfp4", config=CONFIG, sidecar=SIDECAR, files=weights, revisions=("main", "v1", "refs/pr/2"))
    ran = ask(
        tmp_path,
        hub.url,
        ("org/plain", None, False),
        ("org/nvfp4", "refs/pr/2", False),
        ("org/nvfp4", COMMIT, False),
        HF_TOKEN=TOKEN,
    )
    plain, branch, pinned = ran.told
    for told in ran.told:
        assert told.answer["config"] == CONFIG
        assert told.answer["commit"] == COMMIT
        assert told.answer["remarks"] == []
    assert plain.answer["source"] == f"{hub.url}/org/plain/blob/{COMMIT}/config.json"
    assert plain.answer["sidecar"] is None
    assert branch.answer["sidecar"] == pinned.answer["sidecar"] == SIDECAR
    assert pinned.sockets == []  # a commit that is in the cache cannot have changed
    assert ran.stderr == ""

    # One request resolves a branch and lists the files; everything else is read at the commit, once.
    assert [f"{request.method} {request.path}" for request in hub.requests] == [
        "GET /api/models/org/plain?blobs=true",
        f"GET /org/plain/resolve/{COMMIT}/config.json",
        "GET /api/models/org/nvfp4/revision/refs%2Fpr%2F2?blobs=true",
        f"GET /org/nvfp4/resolve/{COMMIT}/config.json",
        f"GET /org/nvfp4/resolve/{COMMIT}/hf_quant_config.json",
    ]
    assert plain.answer["files"] == {
        "config.json": len(json.dumps(CONFIG)),
        "tokenizer.json": 2,
        "model.safetensors": 6 * 10**11,
        "modeling.py": 5,
    }
    assert {request.headers["user-agent"].partition(";")[0] for request in hub.requests} == {f"moeplan/{__version__}"}
    assert {request.headers["authorization"] for request in hub.requests} == {f"Bearer {TOKEN}"}


def test_what_was_read_once_is_there_offline(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/plain", config=CONFIG)
    hub.add("org/nvfp4", config=CONFIG, sidecar=SIDECAR)
    names = ("org/plain", "org/nvfp4")
    ask(tmp_path, hub.url, *((name, None, False) for name in names))
    asked_before = len(hub.requests)
    assert asked_before > 0
    by_flag = ask(tmp_path, hub.url, *((name, None, True) for name in names), ("org/plain", COMMIT, True))
    by_variable = ask(tmp_path, hub.url, *((name, None, False) for name in names), HF_HUB_OFFLINE="1")
    for told in by_flag.told + by_variable.told:
        assert told.answer["config"] == CONFIG
        assert told.answer["commit"] == COMMIT
        assert told.answer["source"].endswith(" (local cache)")
        assert told.answer["remarks"] == []
        assert told.sockets == []
    assert [told.answer["sidecar"] for told in by_flag.told] == [None, SIDECAR, None]
    assert len(hub.requests) == asked_before


def test_offline_without_cache_says_what_forbids_asking(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{closed_port()}"
    (by_flag,) = ask(tmp_path, endpoint, ("org/never", "v1", True), HF_TOKEN=TOKEN).told
    (by_variable,) = ask(tmp_path, endpoint, ("org/never", None, False), HF_HUB_OFFLINE="1").told
    assert by_flag.message.startswith(
        "org/never@v1: its config is not in the local cache, and --offline forbids asking 127"
    )
    assert "without --offline" in by_flag.hint
    assert by_variable.message.startswith("org/never: its config is not in the local cache, and HF_HUB_OFFLINE forbids")
    assert "without HF_HUB_OFFLINE" in by_variable.hint
    for told in (by_flag, by_variable):
        assert told.code == EXIT_UNKNOWN
        assert "config.json" in told.hint
        assert "moeplan models" in told.hint
        assert told.sockets == []


def test_a_cache_filled_by_others_leaves_the_sidecar_in_doubt(tmp_path: Path) -> None:
    quantised = {**CONFIG, "quantization_config": {"quant_method": "fp8"}}
    for name, config in {"plain": CONFIG, "quantised": quantised}.items():
        folder = tmp_path / "hub" / f"models--org--{name}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(COMMIT)
        snapshot = folder / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps(config))
    ran = ask(tmp_path, "http://127.0.0.1:9", ("org/plain", None, True), ("org/quantised", None, True))
    assert [told.answer["remarks"] for told in ran.told] == [["sidecar-unknown"], []]
    assert [told.answer["sidecar"] for told in ran.told] == [None, None]


def test_the_token_does_not_follow_to_another_server(hub: FakeHub, tmp_path: Path) -> None:
    with fake_hub() as storage:
        body = json.dumps(CONFIG).encode()
        storage.add("store/blobs", files={"abc": body})
        hub.add("org/large", files={"config.json": File(body, elsewhere=f"{storage.url}/store/blobs/resolve/main/abc")})
        (told,) = ask(tmp_path, hub.url, ("org/large", None, False), HF_TOKEN=TOKEN).told
        assert told.answer["config"] == CONFIG
        assert {request.headers["authorization"] for request in hub.requests} == {f"Bearer {TOKEN}"}
        assert [request.method for request in storage.requests] == ["GET"]
        assert all("authorization" not in request.headers for request in storage.requests)


GGUF_FILES: Mapping[str, File] = {
    "model.gguf": File(b"", 40 * 10**9),
    "model-Q4_K_M.gguf": File(b"", 18_600_000_000),
    "IQ2/part-00001-of-00002.gguf": File(b"", 20 * 10**9),
    "IQ2/part-00002-of-00002.gguf": File(b"", 10 * 10**9),
    "mmproj-model-f16.gguf": File(b"", 10**9),
    "README.md": File(b""),
}

# name: (how the repository fails, words of the message, words of the hint, exit code)
FAILURES: dict[str, tuple[Fault, tuple[str, ...], tuple[str, ...], int]] = {
    "org/gated": (
        GATED_SIGNED_OUT,
        ("org/gated is gated",),
        ("ask for access at http://127", "HF_TOKEN"),
        EXIT_UNKNOWN,
    ),
    "org/closed": (
        GATED_SIGNED_IN,
        ("gated", "your token has no access"),
        ("ask for access", "HF_TOKEN"),
        EXIT_UNKNOWN,
    ),
    "org/private": (PRIVATE, ("no such model, or it is private",), ("spelling", "HF_TOKEN"), EXIT_UNKNOWN),
    "org/missing": (Fault(404, "RepoNotFound"), ("no such model, or it is private",), ("spelling",), EXIT_UNKNOWN),
    "org/stale-token": (BAD_TOKEN, ("does not accept your token",), ("HF_TOKEN",), EXIT_UNKNOWN),
    "org/forbidden": (Fault(403), ("refuses access (403)",), ("token",), EXIT_UNKNOWN),
    "org/disabled": (DISABLED, ("has disabled this repository",), ("moeplan models",), EXIT_UNKNOWN),
    "org/limited": (RATE_LIMIT, ("limits how often", "429"), ("wait 55 s",), EXIT_UNKNOWN),
    "org/limited-later": (
        Fault(429, headers={"Retry-After": "120"}),
        ("limits how often", "429"),
        ("wait 120 s",),
        EXIT_UNKNOWN,
    ),
    "org/limited-mute": (Fault(429), ("limits how often", "429"), ("wait a few minutes",), EXIT_UNKNOWN),
    "org/fault": (Fault(500), ("a fault of its own (500)",), ("try again later",), EXIT_UNKNOWN),
    "org/down": (Fault(503), ("a fault of its own (503)",), ("moeplan models",), EXIT_UNKNOWN),
    "org/teapot": (Fault(418), ("answers 418",), ("config.json",), EXIT_UNKNOWN),
    "org/cut": (Fault(cut=True), ("cannot be reached: the connection broke off",), ("config.json",), EXIT_UNKNOWN),
}


def test_each_failure_has_its_words_and_way_out(hub: FakeHub, tmp_path: Path) -> None:
    for name, (fault, *_) in FAILURES.items():
        hub.add(name, config=CONFIG, fault=fault)
    ran = ask(tmp_path, hub.url, *((name, None, False) for name in FAILURES), HF_TOKEN=TOKEN)
    for told, (name, (_, message, hint, code)) in zip(ran.told, FAILURES.items(), strict=True):
        assert [words for words in message if words not in told.message] == [], (name, told.message)
        assert [words for words in hint if words not in told.hint] == [], (name, told.hint)
        assert told.code == code, name
        assert "\n" not in told.message + told.hint
        assert "Bearer" not in told.message + told.hint
        assert told.took_s < MOST_S
    assert ran.stderr == ""
    assert ran.took_s < MOST_S


def test_repositories_without_a_usable_config(hub: FakeHub, tmp_path: Path) -> None:
    large = {"config.json": File(b"", size_bytes=100 * 2**20)}
    hub.add("org/model-GGUF", files=GGUF_FILES)
    hub.add("org/pictures", files={"model_index.json": b"{}"})
    hub.add("org/one-GGUF", files={"a.gguf": b"GGUF", "mmproj-F16.gguf": b"GGUF"})
    hub.add("org/lora", files={"adapter_config.json": b'{"base_model_name_or_path": "org/base"}'})
    hub.add("org/lora-mute", files={"adapter_config.json": b"{}"})
    hub.add("org/empty", files={"README.md": b""})
    hub.add("org/tags", config=CONFIG)
    hub.add("org/large", files=large)
    hub.add("org/large-sidecar", config=CONFIG, files={"hf_quant_config.json": large["config.json"]})
    hub.add("org/broken", files={"config.json": b'{\n"a": }'})
    hub.add("org/list", files={"config.json": b"[1]"})
    expected = {
        ("org/model-GGUF", None): (
            "org/model-GGUF holds 3 GGUF models and no config.json",
            "name one with --file: model-Q4_K_M.gguf (18.6 GB), IQ2/part-00001-of-00002.gguf (IQ2, 30.0 GB), model.gguf (40.0 GB)",
        ),
        ("org/one-GGUF", None): ("org/one-GGUF holds one GGUF model and no config.json", "name it with --file: a.gguf"),
        ("org/pictures", None): ("org/pictures is a diffusion pipeline", "language model"),
        ("org/lora", None): (
            "org/lora is an adapter of org/base: it holds no config.json",
            "give its base model org/base",
        ),
        ("org/lora-mute", None): (
            "org/lora-mute is an adapter: it holds no config.json",
            "that adapter_config.json names",
        ),
        ("org/empty", None): ("org/empty holds no config.json", "moeplan models"),
        ("org/tags", "v9"): ("org/tags has no revision 'v9'", "default branch"),
        ("org/large", None): ("org/large config.json: 100 MiB is no model config, so it was not downloaded", "local"),
        ("org/large-sidecar", None): ("org/large-sidecar hf_quant_config.json: 100 MiB is no model config", "local"),
        ("org/broken", None): (f"org/broken@{COMMIT[:12]} config.json: broken JSON: Expecting value at line 2", "JSON"),
        ("org/list", None): (f"org/list@{COMMIT[:12]} config.json: holds a JSON list, not an object", "config.json"),
        ("a b/c", None): ("'a b/c' is no id of a Hub repository", "org/name"),
        ("a/b/c", None): ("'a/b/c' is no id of a Hub repository", "org/name"),
        ("org/..", None): ("'org/..' is no id of a Hub repository", "org/name"),
        ("org/tags", "../../x"): ("org/tags: '../../x' is no revision", "default branch"),
        ("org/tags", ""): ("org/tags: '' is no revision", "default branch"),
    }
    ran = ask(tmp_path, hub.url, *((name, revision, False) for name, revision in expected), HF_TOKEN=TOKEN)
    for told, (question, (message, hint)) in zip(ran.told, expected.items(), strict=True):
        assert told.message.startswith(message), question
        assert hint in told.hint, (question, told.hint)
        assert told.code == EXIT_INPUT, question
        assert told.took_s < MOST_S
    for request in hub.requests:
        if request.method == "GET" and "large" in request.path:
            assert request.path.startswith("/api/")
    assert hub.asked("a b/c") == hub.asked("a/b/c") == []


def test_a_dead_or_hanging_hub_is_told_in_under_ten_seconds(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/slow", config=CONFIG, fault=Fault(wait_s=0.3))
    hub.add("org/hangs", config=CONFIG, fault=Fault(wait_s=60))
    hub.add("org/drips", config=CONFIG, fault=Fault(drip_s=2))
    hub.add("org/cut-later", config=CONFIG, faults={"config.json": Fault(after_bytes=7)})
    port = closed_port()
    endpoints = dict.fromkeys(hub.repositories, hub.url) | {"org/dead": f"http://127.0.0.1:{port}"}

    def one(name: str) -> Ran:
        return ask(tmp_path / name, endpoints[name], (name, None, False), HF_TOKEN=TOKEN)

    with ThreadPoolExecutor(len(endpoints)) as pool:
        ran = dict(zip(endpoints, pool.map(one, endpoints), strict=True))
    assert ran.pop("org/slow").told[0].answer["config"] == CONFIG
    messages = {name: child.told[0].message.partition(" ")[2] for name, child in ran.items()}
    # One answer may be waited for 5 s; on a busy machine the limit for all together can come first.
    assert messages.pop("org/hangs") in {
        "cannot be reached: no answer within 5 s",
        "did not finish its answer within 7 s",
    }
    assert messages == {
        "org/drips": "did not finish its answer within 7 s",
        "org/cut-later": "cannot be reached: the connection broke off",
        "org/dead": "cannot be reached: Connection refused",
    }
    for name, child in ran.items():
        (told,) = child.told
        assert told.code == EXIT_UNKNOWN
        assert "moeplan models" in told.hint
        assert child.stderr == "", name
        assert child.took_s < MOST_S, name
    assert ran["org/dead"].told[0].message.startswith(f"127.0.0.1:{port} ")
    assert ran["org/dead"].took_s < MOST_S / 2


def test_a_dead_hub_and_a_cached_copy_lead_to_offline(tmp_path: Path) -> None:
    with fake_hub() as hub:
        hub.add("org/model", config=CONFIG)
        ask(tmp_path, hub.url, ("org/model", None, False))
    dead = hub.url.replace("http://", f"http://user:{TOKEN}@")
    (still_fresh,) = ask(tmp_path, dead, ("org/model", None, False)).told
    assert still_fresh.answer["config"] == CONFIG
    age_references(tmp_path, 2 * REMEMBER_S)
    (told,) = ask(tmp_path, dead, ("org/model", None, False)).told
    assert told.code == EXIT_UNKNOWN
    assert told.hint.startswith("`--offline` reads the copy in the local cache")
    (offline,) = ask(tmp_path, dead, ("org/model", None, True)).told
    assert offline.answer["config"] == CONFIG


def test_a_branch_is_asked_for_again_after_an_hour(hub: FakeHub, tmp_path: Path) -> None:
    newer = "f" * 40
    hub.add("org/model", config=CONFIG)
    question = ("org/model", None, False)
    ask(tmp_path, hub.url, question)
    asked_before = len(hub.requests)
    hub.add("org/model", config={**CONFIG, "hidden_size": 8}, commit=newer)

    age_references(tmp_path, REMEMBER_S - 120)
    (within,) = ask(tmp_path, hub.url, question).told
    assert len(hub.requests) == asked_before
    assert within.sockets == []
    assert within.answer["commit"] == COMMIT
    assert within.answer["remarks"] == ["revision-remembered"]
    assert f"main was {COMMIT} 58 min ago" in within.answer["messages"][0]

    age_references(tmp_path, REMEMBER_S + 1)
    (after,) = ask(tmp_path, hub.url, question).told
    assert after.answer["commit"] == newer
    assert after.answer["config"]["hidden_size"] == 8
    assert after.answer["remarks"] == []

    # An unchanged branch costs the one request that resolves it.
    age_references(tmp_path, REMEMBER_S + 1)
    asked_before = len(hub.requests)
    (unchanged,) = ask(tmp_path, hub.url, question).told
    assert unchanged.answer["commit"] == newer
    assert [request.path for request in hub.requests[asked_before:]] == ["/api/models/org/model?blobs=true"]


def test_a_short_rate_limit_is_waited_for_once(hub: FakeHub, tmp_path: Path) -> None:
    limit = Fault(429, headers={"RateLimit": '"api";r=0;t=1'}, times=1)
    hub.add("org/limited", config=CONFIG, faults={DESCRIPTION: limit})
    hub.add("org/always", config=CONFIG, faults={DESCRIPTION: limit._replace(times=None)})
    hub.add(
        "org/flaky", config=CONFIG, faults={"config.json": Fault(502, times=1), DESCRIPTION: Fault(cut=True, times=1)}
    )
    limited, always, flaky = ask(
        tmp_path, hub.url, *((f"org/{name}", None, False) for name in ("limited", "always", "flaky"))
    ).told
    assert limited.answer["config"] == flaky.answer["config"] == CONFIG
    assert limited.took_s > 1
    assert "wait 1 s" in always.hint
    assert len(hub.asked("org/always")) == 2


def test_wrong_settings_are_told_without_their_secrets(tmp_path: Path) -> None:
    question = ("org/model", None, False)
    with fake_hub() as hub:
        hub.add("org/model", config=CONFIG)
        (control,) = ask(tmp_path / "a", hub.url, question, HF_TOKEN=f"{TOKEN}\x0b{TOKEN}").told
        (accent,) = ask(tmp_path / "b", hub.url, question, HF_TOKEN=f"{TOKEN}é", PYTHONUTF8="1").told
        (endpoint,) = ask(tmp_path / "c", "nonsense", question).told
        (proxy,) = ask(tmp_path / "d", hub.url, question, HTTP_PROXY=f"bad://user:{TOKEN}@127.0.0.1").told
        (tmp_path / "file").write_text("")
        (home,) = ask(tmp_path / "file" / "home", hub.url, question).told
    for told in (control, accent):
        assert told.message == "the Hub's token holds characters that no token has"
        assert told.code == EXIT_INPUT
    assert endpoint.message == "HF_ENDPOINT holds no web address"
    assert endpoint.code == EXIT_INPUT
    assert proxy.message.endswith("cannot be reached through the proxy")
    assert "HTTP_PROXY" in proxy.hint
    assert home.message.endswith(": Not a directory")
    assert "HF_HOME" in home.hint
    assert {proxy.code, home.code} == {EXIT_UNKNOWN}


def test_an_answer_that_is_no_hubs(hub: FakeHub, tmp_path: Path) -> None:
    # A login page in between: everything is 200 and HTML, and names no commit.
    hub.add("org/portal", config=CONFIG, fault=Fault(200, headers={"Content-Type": "text/html"}))
    (told,) = ask(tmp_path, hub.url, ("org/portal", None, False)).told
    assert "does not answer as a Hub does" in told.message
    assert "HF_ENDPOINT" in told.hint
    assert told.code == EXIT_UNKNOWN
