"""Which model an engine serves, by what is said of it."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.identity import Evidence, Identity, Weights, identify, model_word
from moeplan.sources.deployments.model_names import Traced

SHA = "b5c939de8f754692c1647ca79fbf85e8c1e70f8a"


def quote(text: str) -> Quote:
    return Quote(text, Spot(9))


def command(text: str) -> tuple[Quote, ...]:
    return tuple(Quote(word, Spot(place)) for place, word in enumerate(text.split(), 1))


def shown(identity: Identity) -> tuple[str | None, str | None]:
    return (
        identity.model.text if identity.model is not None else None,
        identity.revision.text if identity.revision is not None else None,
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vllm serve org/name --model other/name", "org/name"),
        ("python3 -m vllm.entrypoints.openai.api_server --model org/name", "org/name"),
        ("python3 -m sglang.launch_server --model-path=org/name", "org/name"),
        ("trtllm-serve serve org/name", "org/name"),
        ("vllm serve --model a/b --model c/d", "c/d"),
        ("--model org/name", "org/name"),
        # What is no program's argument is no model.
        ("folder/word --tp 8", None),
        ("vllm serve --port 8000", None),
    ],
)
def test_the_word_that_names_the_model(words: str, expected: str | None) -> None:
    found = model_word(command(words))
    assert (found.text if found is not None else None) == expected


def test_a_hub_id_in_the_command_is_left_there() -> None:
    everything = Evidence(
        Traced(quote("a/named")), (Weights("/", quote("a/laid")),), Traced(quote("a/hinted")), quote("a/served")
    )
    assert shown(identify(command("vllm serve org/name"), everything)) == (None, None)


@pytest.mark.parametrize(
    ("word", "model", "revision"),
    [
        (f"/hub/models--org--name/snapshots/{SHA}", "org/name", SHA),
        ("hf://org/name@v1", "org/name", "v1"),
    ],
)
def test_what_the_command_says_in_another_way_is_traced(word: str, model: str, revision: str) -> None:
    assert shown(identify(command(f"vllm serve {word}"))) == (model, revision)


@pytest.mark.parametrize(
    ("evidence", "model"),
    [
        (Evidence(Traced(quote("a/named")), (Weights("/m", quote("a/laid")),)), "a/named"),
        (Evidence(None, (Weights("/m", quote("a/laid")),), Traced(quote("a/hinted"))), "a/laid"),
        (Evidence(None, (Weights("/other", quote("a/laid")),), Traced(quote("a/hinted"))), "a/hinted"),
        (Evidence(served_as=quote("a/served")), "a/served"),
        (Evidence(served_as=quote("served")), None),
        (Evidence(), None),
    ],
)
def test_stronger_evidence_counts(evidence: Evidence, model: str | None) -> None:
    assert shown(identify(command("vllm serve /m/weights"), evidence))[0] == model


def test_of_several_mounts_the_nearest_holds_the_weights() -> None:
    weights = (Weights("/m", quote("a/far")), Weights("/m/x", quote("hf://a/near@r")), Weights("/m/xy", quote("a/no")))
    assert shown(identify(command("vllm serve /m/x/"), Evidence(weights=weights))) == ("a/near", "r")


@pytest.mark.parametrize(
    ("path", "served", "model"),
    [
        ("/cache/deepseek-r1", "deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1"),
        ("/cache/deepseek-r1-fp4", "deepseek-ai/DeepSeek-R1", None),
        ("/cache/DeepSeek_V3_NVFP4", "deepseek-ai/DeepSeek-V3", None),
        ("/cache/qwen-awq/", "Qwen/Qwen3", None),
        ("/cache/qwen-w4a16", "Qwen/Qwen3", None),
        ("/cache/model.Q4.gguf", "org/model", None),
        ("/cache/qwen-fp8", "Qwen/Qwen3-FP8", "Qwen/Qwen3-FP8"),
        # One says how the four bits are stored, and the other does not.
        ("/cache/r1-nvfp4", "nvidia/R1-FP4", "nvidia/R1-FP4"),
        ("/cache/fp8/model", "org/model", "org/model"),
        ("/cache/model", "model", None),
    ],
)
def test_a_served_name_is_the_last_evidence_and_none_where_the_path_says_more(
    path: str, served: str, model: str | None
) -> None:
    found = identify(command(f"vllm serve {path} --served-model-name {served}"))
    assert shown(found)[0] == model
    differs = model is None and "/" in served
    assert [remark.code for remark in found.remarks] == (["served-name-differs"] if differs else [])
    if differs:
        assert found.remarks[0].spot == Spot(3)
    if found.model is not None:
        assert found.model.origin == "inferred"


def test_a_word_that_is_not_known_leaves_the_served_name() -> None:
    words = (*command("vllm serve"), Quote("$MODEL", Spot(3), "unresolved", ("$MODEL",)))
    found = identify((*words, *command("--served-model-name org/name")))
    assert shown(found)[0] == "org/name"
