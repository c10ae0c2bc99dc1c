"""Public deployment files, and what a correct reader extracts from each: `data/deployments` of the folder beside the repository.

Skipped where that folder is not. Every fact of its manifest is held against what was read, and every quote against the line
that it claims to stand on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from moeplan.core.deployed import Deployed, FileRead, Quote
from moeplan.engines import ALSO_CALLED, flags_of
from moeplan.engines.command_line import Command, read_command
from moeplan.sources.deployments.read import read_file
from moeplan.sources.deployments.words import value_of

EXAMPLES = Path(__file__).parents[2] / "shared" / "data" / "deployments"
MANIFEST = EXAMPLES / "manifest.yaml"

NOT_HELD = {
    # Sentences, and where a value comes from.
    "note", "trap", "revision_note", "model_from", "flags_from", "engine_config", "gpu_hint", "architecture",
    # Of the model, which no reader opens.
    "moe", "context_length", "variants",
}  # fmt: skip

# The manifest says 8 GPUs and degrees of 8 for each engine. The file has `nodeCount: 2` with `gpu: "8"` and `--tp 16`,
# `--dp 16`, `--ep-size 16` (lines 32, 35, 62, 64, 67; 85, 88, 115, 117), and the Hub id behind `--model-path` itself.
_ANOTHER = {"gpus_per_engine": 16, "tp": 16, "ep": 16}
CORRECTED: Mapping[str, Mapping[str, Any]] = {
    "dynamo-deepseek-r1-sglang-disagg-16gpu.yaml": {
        "decode": {**_ANOTHER, "dp": 16, "confidence": None},
        "prefill": _ANOTHER,
        "total_gpus": 32,
    }
}


class Example(NamedTuple):
    """A file with its entry in the manifest."""

    name: str
    kind: str
    facts: Mapping[str, Any]
    text: str
    read: FileRead


class Seen(NamedTuple):
    """A deployment as it was read."""

    deployed: Deployed
    command: Command


@cache
def examples() -> Mapping[str, Example]:
    if not MANIFEST.is_file():
        return {}
    found = {}
    for entry in yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["entries"]:
        text = (EXAMPLES / entry["file"]).read_text(encoding="utf-8")
        found[entry["file"]] = Example(
            entry["file"], entry["kind"], entry["facts"], text, read_file(entry["file"], text)
        )
    return found


needed = pytest.mark.skipif(not examples(), reason="the folder of examples is not beside the repository")
each_example = pytest.mark.parametrize("name", sorted(examples()) or ["none"])


def seen(example: Example, stated: Mapping[str, Any]) -> Seen:
    """The deployment that an entry is about: by its name, else the only one."""
    found = example.read.deployments
    if "name" in stated:
        (deployed,) = (each for each in found if each.name == stated["name"])
    else:
        (deployed,) = found
    assert deployed.engine is not None
    return Seen(deployed, read_command(flags_of(deployed.engine), [word.text for word in deployed.command]))


# One function for each fact of the manifest ----------------------------------------------------------------------


def text_of(quote: Quote | None) -> str | None:
    return None if quote is None else quote.text


def model(one: Seen) -> str | None:
    stated = one.command.fields.get("model")
    found = text_of(one.deployed.model) or (None if stated is None else str(stated))
    return found if found is None or one.deployed.engine != "llamacpp" else found.partition(":")[0]


def expert_ranks(one: Seen) -> object:
    fields = one.command.fields
    if fields.get("expert_parallel"):
        return int(str(fields.get("tp") or 1)) * int(str(fields.get("dp") or 1))
    return fields.get("ep")


def setting(*names: str) -> Callable[[Seen], object]:
    return lambda one: next((one.command.settings[name] for name in names if name in one.command.settings), None)


def field(name: Any, default: object = None) -> Callable[[Seen], object]:
    def found(one: Seen) -> object:
        value = one.command.fields.get(name, default)
        return default if value is None else value

    return found


def speculation(one: Seen) -> object:
    """In the manifest's words, which are the same for all engines."""
    settings = one.command.settings
    if one.deployed.engine == "sglang":
        found = {
            "method": settings.get("--speculative-algorithm"),
            "steps": settings.get("--speculative-num-steps"),
            "draft_tokens": settings.get("--speculative-num-draft-tokens"),
        }
        return {name: value for name, value in found.items() if value is not None}
    text = settings.get("--speculative-config") or settings.get("--speculative_config")
    words = {"decoding_type": "method", "draft_tensor_parallel_size": "draft_tp"}
    return {words.get(key, key): value for key, value in json.loads(str(text)).items()}


def quantised(one: Seen) -> str | None:
    return str(one.command.fields["model"]).partition(":")[2] or None


FACTS: Mapping[str, Callable[[Seen], object]] = {
    "name": lambda one: one.deployed.name,
    "role": lambda one: one.deployed.role,
    "engine": lambda one: one.deployed.engine,
    "engine_version": lambda one: text_of(one.deployed.engine_version),
    "model": model,
    "revision": lambda one: text_of(one.deployed.revision) or one.command.fields.get("revision"),
    "confidence": lambda one: "low" if one.deployed.model and one.deployed.model.origin == "inferred" else None,
    "served_as": lambda one: text_of(next(iter(one.deployed.served_names), None)),
    "gpu": lambda one: text_of(one.deployed.gpu),
    "gpus_per_engine": lambda one: one.deployed.gang.gpus_per_engine,
    "gpus_per_pod": lambda one: one.deployed.gang.gpus_per_pod and one.deployed.gang.gpus_per_pod.whole_number(),
    "pods": lambda one: one.deployed.gang.pods_per_engine and one.deployed.gang.pods_per_engine.whole_number(),
    "replicas": lambda one: replicas(one.deployed),
    "tp": field("tp", 1),
    "pp": field("pp", 1),
    "dp": field("dp", 1),
    "ep": expert_ranks,
    "dp_local": lambda one: local(one.deployed),
    "attention_dp": field("dp_attention", default=False),
    "dp_attention": field("dp_attention", default=False),
    "redundant_experts": field("redundant_experts"),
    "max_len": field("context_tokens"),
    "max_seq_len": field("context_tokens"),
    "max_num_seqs": setting("--max-num-seqs", "--max-running-requests"),
    "max_batch_size": setting("--max_batch_size"),
    "max_num_tokens": setting("--max_num_tokens"),
    "max_num_batched_tokens": setting("--max-num-batched-tokens"),
    "max_cudagraph_capture_size": setting("--max-cudagraph-capture-size"),
    "block_size": setting("--block-size"),
    "enforce_eager": setting("--enforce-eager"),
    "prefix_caching": setting("--enable-prefix-caching"),
    "gpu_layers": setting("--gpu-layers"),
    "dtype": field("dtype", "auto"),
    "kv_dtype": field("kv_dtype"),
    "kv_cache_dtype": field("kv_dtype"),
    "gpu_memory_utilization": field("utilization_fraction"),
    "mem_fraction_static": field("utilization_fraction"),
    "kv_free_fraction": field("utilization_fraction"),
    "speculative": speculation,
    "quant": quantised,
}


def local(deployed: Deployed) -> int | None:
    """Ranks of one pod, which change nothing in memory: no setting of the engine keeps them."""
    stated = value_of(deployed.command, "--data-parallel-size-local", "-dpl")
    return None if stated is None else stated.whole_number()


def replicas(deployed: Deployed) -> int | None:
    return 1 if deployed.gang.replicas is None else deployed.gang.replicas.whole_number()


def agrees(fact: str, expected: object, found: object) -> bool:
    match fact:
        case "engine":
            return found == ALSO_CALLED.get(str(expected), expected)
        case "engine_version":
            return str(found).removeprefix("v") == str(expected).removeprefix("v")
        case "gpu" if expected is not None:
            return str(expected) in str(found)
        case "tp" if expected is None:
            return found == 1
        case _:
            return found == expected


# What was read ---------------------------------------------------------------------------------------------------


@needed
@each_example
def test_the_facts_of_every_deployment(name: str) -> None:
    example = examples()[name]
    corrected = CORRECTED.get(name, {})
    deployments = example.facts.get("deployments")
    if deployments is not None:
        assert len(example.read.deployments) == len(deployments)
    wrong = []
    for stated in deployments or ():
        one = seen(example, stated)
        for fact, value in {**stated, **corrected.get(stated.get("name", ""), {})}.items():
            if fact in NOT_HELD:
                continue
            found = FACTS[fact](one)
            if not agrees(fact, value, found):
                wrong.append(f"{one.deployed.name}: {fact} is {found!r}, not {value!r}")
    assert not wrong


@needed
@each_example
def test_the_kind_and_what_is_passed_over(name: str) -> None:
    example = examples()[name]
    assert example.read.recognised
    assert not [remark for remark in example.read.remarks if remark.code in ("file-broken", "nothing-recognised")]
    assert {each.kind for each in example.read.deployments} <= {example.kind}
    assert not example.read.secrets
    for fact in ("not_a_model_server", "skipped"):
        assert set(example.facts.get(fact, ())) <= set(example.read.passed_over)


@needed
@each_example
def test_the_gpus_of_all_engines(name: str) -> None:
    example = examples()[name]
    facts = {**example.facts, **CORRECTED.get(name, {})}
    total = facts.get("total_gpus", facts.get("cluster_gpus"))
    gpus = [(each.gang.gpus_per_engine, replicas(each)) for each in example.read.deployments]
    if total is not None:
        assert sum(per_engine * number for per_engine, number in gpus if per_engine and number) == total


@needed
@each_example
def test_every_word_is_understood(name: str) -> None:
    """A word that a reader makes of a key must be one that the engine's table reads."""
    for deployed in examples()[name].read.deployments:
        command = read_command(flags_of(deployed.engine or ""), [word.text for word in deployed.command])
        unknown = [note.message.split(":")[0] for note in command.notes if note.code == "flag-unknown"]
        assert not unknown


# Files that deploy nothing, or many --------------------------------------------------------------------------------


@needed
def test_a_recipe_names_its_model_and_deploys_nothing() -> None:
    example = examples()["vllm-recipe-qwen3-30b-a3b.yaml"]
    assert not example.read.deployments
    (remark,) = example.read.remarks
    assert (remark.code, example.facts["model"] in remark.message) == ("recipe", True)


@needed
def test_models_of_llama_swap() -> None:
    example = examples()["llama-swap-multi-model.yaml"]
    document = yaml.safe_load(example.text)
    deployments = {each.name: each for each in example.read.deployments}
    assert {*deployments, *example.read.passed_over} == set(document["models"])
    assert {each.engine for each in deployments.values()} == {ALSO_CALLED[example.facts["engine"]]}
    paths = [str(seen(example, {"name": name}).command.fields["model"]) for name in deployments]
    assert all(re.match(r"F:[\\/]ai[\\/]lmstudio-models[\\/].*\.gguf", path) for path in paths)
    # One at a time, but for the two members of the group without swapping, which have the machine to themselves.
    members = document["groups"]["group1"]["members"]
    for name, deployed in deployments.items():
        assert bool(deployed.not_at_once) is (name not in members)
    assert len({deployments[name].host for name in members}) == 1
    assert len({each.host for each in deployments.values()}) == 2


# Places ------------------------------------------------------------------------------------------------------------


def other_quotes(deployed: Deployed) -> Iterator[Quote]:
    yield from deployed.served_names
    yield from deployed.variables.values()
    yield from (value for value in deployed.gang if value is not None)
    yield from (
        value
        for value in (deployed.engine_version, deployed.image, deployed.model, deployed.revision, deployed.gpu)
        if value is not None
    )


def stands_on(quote: Quote, line: str) -> bool:
    """True where the line says what the quote does: its text, the variable that holds it, or the key that it is made of."""
    if quote.text.casefold() in line.casefold():
        return True
    variable = re.match(r"variable (\w+)", quote.why)
    if variable is not None and variable.group(1) in line:
        return True
    steps = [step for step in re.split(r"[.\[\]]", quote.spot.path) if step and not step.isdecimal()]
    return bool(steps) and steps[-1] in line


def misplaced(words: Sequence[Quote], lines: Sequence[str]) -> Iterator[Quote]:
    """Words that do not stand on their line. A flag that a key was turned into stands with its value, and a list or mapping
    that was turned into JSON stands where it begins."""
    for place, quote in enumerate(words):
        line = lines[quote.spot.line - 1] if 0 < quote.spot.line <= len(lines) else ""
        behind = words[place + 1] if place + 1 < len(words) else None
        with_value = quote.text.startswith("-") and behind is not None and behind.spot.line == quote.spot.line
        as_json = quote.text.startswith(("{", "["))
        if quote.origin != "stated" or stands_on(quote, line) or with_value or (as_json and line.strip()):
            continue
        yield quote


@needed
@each_example
def test_every_quote_stands_on_its_line(name: str) -> None:
    example = examples()[name]
    lines = example.text.split("\n")
    wrong: list[Quote] = []
    for deployed in example.read.deployments:
        others = tuple(other_quotes(deployed))
        assert all(0 < quote.spot.line <= len(lines) for quote in (*deployed.command, *others))
        wrong += misplaced(deployed.command, lines)
        wrong += (each for quote in others for each in misplaced((quote,), lines))
    assert not [(quote.text, quote.spot) for quote in wrong]
