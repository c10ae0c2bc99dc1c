"""`moeplan lock` and `check --locked`: what is read once, what is stale, what was edited, and that no connection is opened."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest

from tests.check.repositories import commit, write
from tests.check.rule_examples import pod
from tests.cli.conftest import Outcome, Run
from tests.cli.test_headers import SMALL, small_shapes
from tests.report.schemas import Schema
from tests.sources.fake_hub import COMMIT, FakeHub, Fault, fake_hub, shard

LENGTH = ("--max-model-len", "512")
ON_THE_HUB = pod(*LENGTH, "--revision", COMMIT, model="org/small", gpus=1)
MOVING = pod(*LENGTH, model="org/small", gpus=1)
BUILT_IN = pod("--tensor-parallel-size", "2", *LENGTH)
CACHES = ".caches"
RESULT, FILE = Schema("lock-result"), Schema("lock")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A Hub with one small model."""
    with fake_hub() as running:
        add(running)
        yield running


@pytest.fixture
def ask(hub: FakeHub, child: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path) -> Run:
    """Run moeplan beside that Hub; the Hub's client learns an address once in a process, so that each run has its own."""

    def go(*words: str) -> Outcome:
        caches = {"HF_HOME": str(tmp_path / CACHES / "hub"), "XDG_CACHE_HOME": str(tmp_path / CACHES)}
        done = child(*words, env={"HF_ENDPOINT": hub.url, **caches})
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    return go


def add(hub: FakeHub, **changes: Any) -> None:
    tensors = {name: ("BF16", shape, 2 * prod(shape)) for name, shape in small_shapes().items()}
    hub.add(
        "org/small", config=SMALL | changes, files={"model.safetensors": shard(tensors)}, revisions=("main", COMMIT)
    )


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    text = (folder / "moeplan.lock").read_text(encoding="utf-8")
    assert FILE.complaints(text) == []
    return {row["model"]: row for row in json.loads(text)["models"]}


def changes(done: Outcome) -> dict[str, str]:
    """What `moeplan lock --json` says of each model."""
    assert RESULT.complaints(done.out) == []
    found = json.loads(done.out)
    return {each["model"]: each["change"] for each in found["models"]} | {
        each["model"]: "removed" for each in found["removed"]
    }


# Reading and writing ----------------------------------------------------------------------------------------------


def test_a_model_of_the_hub_is_read_once_and_checked_without_one(ask: Run, folder: Path, hub: FakeHub) -> None:
    write(folder, {"deploy/a.yaml": ON_THE_HUB, "deploy/b.yaml": BUILT_IN})
    assert ask("check", "deploy", "--locked").code == 2
    done = ask("lock", "deploy", "--json")
    assert (done.code, done.err) == (0, "")
    assert changes(done) == {"org/small": "added", "mistralai/Mixtral-8x7B-v0.1": "added"}
    mine = rows(folder)["org/small"]
    assert (mine["commit"], mine["revision"]) == (COMMIT, COMMIT)
    # Two bytes for each number of the tensors' shapes.
    assert mine["checkpoint_bytes"] == sum(2 * prod(shape) for shape in small_shapes().values())
    assert mine["config"]["hidden_size"] == SMALL["hidden_size"]
    assert mine["source"] == f"hf://org/small@{COMMIT}"
    asked = len(hub.requests)
    assert asked > 0
    for name in ("text", "json", "sarif"):
        assert ask("check", "deploy", "--locked", "--format", name).code == 0
    assert len(hub.requests) == asked
    verdicts = json.loads(ask("check", "deploy", "--locked", "--json").out)
    assert [each["verdict"] for each in verdicts["deployments"]] == ["pass", "pass"]
    assert verdicts["locked"] is True


def test_what_was_locked_at_a_commit_is_not_asked_for_again(ask: Run, folder: Path, hub: FakeHub) -> None:
    write(folder, {"deploy/a.yaml": ON_THE_HUB})
    assert ask("lock", "deploy").code == 0
    hub.requests.clear()
    for words in (["lock", "deploy"], ["lock", "deploy", "--check"], ["lock", "deploy", "--check", "--offline"]):
        done = ask(*words, "--json")
        assert (done.code, changes(done)) == (0, {"org/small": "same"})
    assert hub.requests == []


def test_the_same_models_write_the_same_bytes(ask: Run, folder: Path, hub: FakeHub) -> None:
    write(folder, {"deploy/a.yaml": ON_THE_HUB, "deploy/b.yaml": BUILT_IN})
    ask("lock", "deploy")
    before = (folder / "moeplan.lock").read_bytes()
    (folder / "moeplan.lock").unlink()
    (folder / "deploy" / "a.yaml").rename(folder / "deploy" / "z.yaml")
    ask("lock", "deploy")
    assert (folder / "moeplan.lock").read_bytes() == before
    assert str(folder) not in before.decode()
    when = os.stat(folder / "moeplan.lock").st_mtime_ns
    assert json.loads(ask("lock", "deploy", "--json").out)["written"] is False
    assert os.stat(folder / "moeplan.lock").st_mtime_ns == when


def test_a_moving_revision_that_moved_is_stale(ask: Run, folder: Path, hub: FakeHub) -> None:
    write(folder, {"deploy/a.yaml": MOVING})
    ask("lock", "deploy")
    assert ask("lock", "deploy", "--check").code == 0
    before = (folder / "moeplan.lock").read_text()
    # Without a connection the Hub's client knows the config still, and not the headers.
    assert changes(ask("lock", "deploy", "--check", "--offline", "--json")) == {"org/small": "same"}
    later = "f" * 40
    shutil.rmtree(folder / CACHES)  # what a branch was is remembered for an hour
    hub.add("org/small", config=SMALL | {"num_hidden_layers": 1}, commit=later, revisions=("main", later))
    done = ask("lock", "deploy", "--check", "--json")
    assert (done.code, changes(done)) == (1, {"org/small": "changed"})
    assert (folder / "moeplan.lock").read_text() == before
    assert ask("lock", "deploy", "--check").out.splitlines()[-1].startswith("moeplan.lock is stale")
    assert ask("lock", "deploy").code == 0
    assert rows(folder)["org/small"]["commit"] == later
    assert ask("lock", "deploy", "--check").code == 0


# Stale, edited, missing -------------------------------------------------------------------------------------------


@pytest.fixture
def two(run: Run, folder: Path) -> Path:
    """Two models of the catalogue that are locked."""
    gpt = pod(*LENGTH, model="openai/gpt-oss-20b", gpus=1)
    write(folder, {"deploy/a.yaml": BUILT_IN, "deploy/b.yaml": gpt})
    assert run("lock", "deploy", "--offline").code == 0
    return folder


def test_more_and_fewer_models_are_stale_until_it_is_written(run: Run, two: Path) -> None:
    for files, said in (
        ({"deploy/c.yaml": pod(*LENGTH, model="Qwen/Qwen3-30B-A3B")}, {"Qwen/Qwen3-30B-A3B": "added"}),
        ({"deploy/b.yaml": BUILT_IN}, {"openai/gpt-oss-20b": "removed"}),
        ({"deploy/a.yaml": "a: 1\n", "deploy/b.yaml": "a: 1\n", "deploy/c.yaml": "a: 1\n"}, {}),
    ):
        write(two, files)
        done = run("lock", "deploy", "--offline", "--check", "--json")
        assert done.code == 1
        assert json.loads(done.out)["stale"] is True
        assert said.items() <= changes(done).items()
        done = run("lock", "deploy", "--offline", "--json")
        assert (done.code, json.loads(done.out)["stale"], json.loads(done.out)["written"]) == (0, False, True)
        assert run("lock", "deploy", "--offline", "--check").code == 0
    assert rows(two) == {}


def test_a_model_that_is_not_in_it_cannot_be_verified(run: Run, two: Path) -> None:
    write(two, {"deploy/c.yaml": pod(*LENGTH, model="Qwen/Qwen3-30B-A3B")})
    done = run("check", "deploy", "--locked")
    assert done.code == 3
    assert "READ007 cannot verify: Qwen/Qwen3-30B-A3B is not in moeplan.lock" in done.out
    write(two, {"deploy/c.yaml": pod("--tensor-parallel-size", "2", *LENGTH, "--revision", "main")})
    told = " ".join(run("check", "deploy", "--locked").out.split())
    assert "mistralai/Mixtral-8x7B-v0.1 at revision main is not in moeplan.lock" in told


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "moeplan.lock").read_text())
    change(content["models"][0]["config"])
    (folder / "moeplan.lock").write_text(json.dumps(content))


def test_one_that_was_edited_is_refused_and_made_anew(run: Run, two: Path) -> None:
    before = (two / "moeplan.lock").read_text()
    edited(two, lambda config: config.update(hidden_size=64))
    done = run("check", "deploy", "--locked")
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(
        r"error: moeplan\.lock: the config of \S+ is not the one that was locked\n hint: .*`moeplan lock`.*\n", done.err
    )
    done = run("lock", "deploy", "--check", "--offline", "--json")
    assert done.code == 1
    assert sorted(changes(done).values()) == ["changed", "same"]
    assert run("lock", "deploy", "--offline").code == 0
    assert (two / "moeplan.lock").read_text() == before
    assert run("check", "deploy", "--locked").code == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not JSON", "no JSON"),
        ("{}", "no lock file of moeplan"),
        ('{"lockfileVersion": 3}', "no lock file of moeplan"),
        ('{"schema": "moeplan.lock/2", "models": []}', "moeplan.lock/2"),
        ('{"schema": "moeplan.lock/1"}', "not all of its models"),
        ('{"schema": "moeplan.lock/1", "models": [1]}', "not all of its models"),
        ('{"schema": "moeplan.lock/1", "models": [{"model": "x"}]}', "not all of its models"),
    ],
)
def test_a_file_that_is_none_is_neither_read_nor_overwritten(text: str, told: str, run: Run, two: Path) -> None:
    (two / "moeplan.lock").write_text(text)
    for words in (["check", "--locked"], ["lock", "--offline"], ["lock", "--offline", "--check"]):
        done = run(*words, "deploy")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: moeplan.lock")
        assert told in done.err
    assert (two / "moeplan.lock").read_text() == text


def test_rows_with_values_of_other_types_are_refused(run: Run, two: Path) -> None:
    content = json.loads((two / "moeplan.lock").read_text())
    for name, value in (("config", []), ("commit", 1), ("checkpoint_bytes", "1"), ("id", None), ("revision", True)):
        rows = [{**content["models"][0], name: value}]
        (two / "moeplan.lock").write_text(json.dumps({**content, "models": rows}))
        assert run("check", "deploy", "--locked").code == 2


# What cannot be read ----------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_told_and_the_rest_is_locked(ask: Run, folder: Path, hub: FakeHub) -> None:
    write(folder, {"deploy/a.yaml": BUILT_IN, "deploy/b.yaml": pod(*LENGTH, model="org/nowhere")})
    done = ask("lock", "deploy")
    assert done.code == 3
    assert "not read org/nowhere" in done.out
    assert set(rows(folder)) == {"mistralai/Mixtral-8x7B-v0.1"}
    # Stale counts before what could not be found out.
    write(folder, {"deploy/a.yaml": pod(*LENGTH, model="openai/gpt-oss-20b")})
    assert ask("lock", "deploy", "--check").code == 1


def test_what_could_not_be_read_now_stays_as_it_was_locked(ask: Run, folder: Path, hub: FakeHub) -> None:
    write(folder, {"deploy/a.yaml": MOVING})
    ask("lock", "deploy")
    before = (folder / "moeplan.lock").read_bytes()
    hub.add("org/small", config=SMALL, fault=Fault(404, "RepoNotFound"))
    shutil.rmtree(folder / CACHES)
    done = ask("lock", "deploy", "--json")
    assert (done.code, changes(done)) == (3, {"org/small": "kept"})
    assert (folder / "moeplan.lock").read_bytes() == before
    edited(folder, lambda config: config.update(hidden_size=32))
    done = ask("lock", "deploy", "--json")
    assert (done.code, changes(done), rows(folder)) == (3, {}, {})


def test_facts_of_another_revision_are_not_locked(run: Run, folder: Path) -> None:
    text = pod("--tensor-parallel-size", "2", *LENGTH, "--revision", COMMIT)
    write(folder, {"deploy/a.yaml": text})
    assert run("check", "deploy", "--offline").code == 0  # with READ009
    done = run("lock", "deploy", "--offline", "--json")
    assert done.code == 3
    (unread,) = json.loads(done.out)["unlocked"]
    assert unread["problem"] == f"revision {COMMIT[:12]} of mistralai/Mixtral-8x7B-v0.1 was not read"
    assert not (folder / "moeplan.lock").exists()


def test_deployments_without_a_known_model_are_counted(run: Run, two: Path) -> None:
    write(
        two, {"deploy/c.yaml": pod(*LENGTH, model="/models/x"), "serve.sh": "vllm serve $MODEL --max-model-len 512\n"}
    )
    assert json.loads(run("lock", "deploy", "serve.sh", "--offline", "--json").out)["not_known"] == 2
    done = run("lock", "deploy", "serve.sh", "--offline", "--set", "MODEL=Qwen/Qwen3-30B-A3B", "--json")
    assert json.loads(done.out)["not_known"] == 1
    assert changes(done)["Qwen/Qwen3-30B-A3B"] == "added"


# Where it lies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [".", "deploy"])
def test_it_lies_beside_the_policy(inside: str, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"deploy/a.yaml": BUILT_IN, "moeplan.yaml": "{}\n"})
    monkeypatch.chdir(folder / inside)
    done = run("lock", "--offline")
    assert (done.code, (folder / "moeplan.lock").exists()) == (0, True)
    assert str(folder) not in done.out
    assert run("check", "--locked").code == 0


def test_without_a_policy_the_nearest_above_counts(run: Run, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (two / ".git").mkdir()
    monkeypatch.chdir(two / "deploy")
    assert run("check", "--locked").code == 0
    assert run("lock", "--check", "--offline").code == 0
    assert not (two / "deploy" / "moeplan.lock").exists()


def test_another_file(run: Run, two: Path) -> None:
    (two / "moeplan.lock").rename(two / "other.lock")
    assert run("check", "deploy", "--locked", "--lock", "other.lock").code == 0
    assert run("lock", "deploy", "--offline", "--lock", "other.lock", "--check").code == 0
    done = run("lock", "deploy", "--offline", "--lock", "nowhere/x.lock")
    assert done.code == 2
    assert re.fullmatch(r"error: nowhere/x\.lock: cannot be written .*\n hint: .*--lock\n", done.err)


def test_a_path_of_the_policy_is_kept_as_it_is_written(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"deploy/a.yaml": pod("--tensor-parallel-size", "2", *LENGTH, model="/models/m")})
    write(folder, {"moeplan.yaml": "models: {/models/m: ./mixtral}\n"})
    monkeypatch.chdir(folder / "deploy")
    assert run("lock").code == 0
    assert {name: row["source"] for name, row in rows(folder).items()} == {"./mixtral": "./mixtral"}
    (folder / "mixtral" / "config.json").unlink()
    assert run("check", "--locked").code == 0


def test_a_base_is_checked_by_the_lock_file_that_it_has(run: Run, two: Path) -> None:
    commit(two)
    write(two, {"deploy/a.yaml": pod("--tensor-parallel-size", "2", *LENGTH, model="Qwen/Qwen3-30B-A3B")})
    assert run("lock", "deploy", "--offline").code == 0
    done = run("check", "deploy", "--locked", "--diff", "HEAD", "--json")
    verdicts = [(each["base_verdict"], each["head_verdict"]) for each in json.loads(done.out)["deployments"]]
    assert verdicts == [("pass", "pass"), ("pass", "pass")]
