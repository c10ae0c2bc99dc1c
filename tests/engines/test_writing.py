"""Commands that are written say what they were made from: they are read back by the engine's own table."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from moeplan.core.deployment import Value
from moeplan.core.errors import InputError
from moeplan.core.launch import Launch, Place
from moeplan.core.layout import AskedLayout, Layout
from moeplan.core.model import ModelSpec
from moeplan.engines import load
from moeplan.engines.command_line.writing import launch_command, launch_words
from moeplan.estimate.question import read_kv_dtype
from moeplan.estimate.stated import Stated, read_stated
from moeplan.sources.loaded import Asked
from moeplan.sources.models import find_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC: ModelSpec = find_model("Qwen/Qwen3-30B-A3B", Asked(offline=True)).spec
LIMITS = {"vllm": "--max-num-seqs", "sglang": "--max-running-requests", "trtllm": "--max_batch_size"}
degrees = st.sampled_from([1, 2, 4, 8])


def read(launch: Launch, place: Place = Place()) -> Stated:  # noqa: B008
    """What the reader makes of the command; TensorRT-LLM's file of options is laid where the command says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "options.yaml"
        place = place._replace(options_path=str(path))
        command = launch_command(launch, place)
        path.write_text(yaml.safe_dump(dict(command.options)), encoding="utf-8")
        return read_stated(launch.engine, {}, launch_words(launch, place))


def resolved(engine: str, stated: Stated, num_gpus: int) -> Layout:
    """The layout that the engine would run; llama.cpp looks how many devices there are."""
    devices = num_gpus if engine == "llamacpp" else None
    return load(engine).resolve_layout(SPEC, stated.layout, devices, stated.settings)


@st.composite
def layouts(draw: st.DrawFn, engine: str) -> Layout:
    """Layouts as the engine resolves them."""
    tp, pp, dp = draw(degrees), draw(st.sampled_from([1, 2, 3, 5])), draw(degrees)
    spread = draw(st.booleans())
    stages = None
    if pp > 1 and draw(st.booleans()) and engine in ("vllm", "sglang"):
        first = draw(st.integers(1, 48 // pp))
        stages = (first, *[48 // pp] * (pp - 2), 48 - first - 48 // pp * (pp - 2))
    asked = AskedLayout(tp=tp, pp=pp, pp_layers=stages)
    settings: dict[str, Value] = {}
    devices = None
    match engine:
        case "vllm":
            asked = asked._replace(dp=dp, expert_parallel=spread, dcp=draw(st.sampled_from([1, 2])))
        case "sglang":
            attention = draw(st.booleans())
            asked = asked._replace(dp=min(dp, tp) if attention else dp, dp_attention=attention, ep=tp if spread else 1)
        case "trtllm":
            asked = asked._replace(dp_attention=draw(st.booleans()), ep=draw(st.sampled_from([1, tp])))
        case _:
            asked, devices = AskedLayout(tp=tp if spread and tp > 1 else None), tp
    layout = load(engine).resolve_layout(SPEC, asked, devices, settings)
    nodes = draw(st.sampled_from([1, 2])) if engine in ("vllm", "sglang") and layout.num_gpus % 2 == 0 else 1
    redundant = draw(st.sampled_from([0, 32])) if layout.ep > 1 and engine in ("vllm", "sglang") else 0
    return layout._replace(num_nodes=nodes, redundant_experts=redundant)


@st.composite
def launches(draw: st.DrawFn, engine: str) -> Launch:
    """Launches of one engine."""
    kv_dtypes = [None, "q8_0", "float16"] if engine == "llamacpp" else [None, "fp8"]
    share = None if engine == "llamacpp" else draw(st.none() | st.floats(0.05, 1.0, exclude_min=True))
    return Launch(
        engine=engine,
        model=draw(st.sampled_from(["Qwen/Qwen3-30B-A3B", "org/a.b_c-D", "org/name"])),
        layout=draw(layouts(engine)),
        context_tokens=draw(st.integers(1, 10**7)),
        sequences=draw(st.none() | st.integers(1, 5000)),
        revision=draw(st.sampled_from([None, COMMIT])) if engine != "llamacpp" else None,
        kv_dtype=draw(st.sampled_from(kv_dtypes)),
        utilization_fraction=share,
        quantization=draw(st.sampled_from([None, "fp8"])) if engine in ("vllm", "sglang") else None,
    )


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "llamacpp"])
def test_what_is_written_is_read_back(engine: str) -> None:
    @given(launches(engine))
    @settings(max_examples=150, deadline=None)
    def holds(launch: Launch) -> None:
        stated = read(launch)
        found = resolved(engine, stated, launch.layout.num_gpus)
        assert found == launch.layout
        assert stated.model == launch.model
        values = stated.values
        assert values["context_tokens"] == launch.context_tokens
        kv_dtype = values.get("kv_dtype")
        assert read_kv_dtype(None if kv_dtype is None else str(kv_dtype)) == launch.kv_dtype
        assert values.get("utilization_fraction") == launch.utilization_fraction
        assert values.get("revision") == launch.revision
        assert stated.quantization == launch.quantization
        # Each data-parallel rank of vLLM and TensorRT-LLM has a limit of its own, and each copy of SGLang's.
        ranks = 1 if engine == "sglang" and launch.layout.dp_attention else launch.layout.dp
        if engine == "llamacpp":
            assert values["concurrency"] == (launch.sequences or 1)
        elif launch.sequences is None:
            assert LIMITS[engine] not in stated.settings
        else:
            limit = stated.settings[LIMITS[engine]]
            assert isinstance(limit, int)
            assert (limit - 1) * ranks < launch.sequences <= limit * ranks
        assert not [note for note in stated.notes if note.code in ("flag-unknown", "flag-repeated")]

    holds()


def test_a_command_of_each_engine() -> None:
    def words(engine: str, layout: Layout, **more: object) -> str:
        launch = Launch(engine, "org/name", layout, 4096, 64)
        return shlex.join(launch_words(launch._replace(**more)))  # type: ignore[arg-type]

    two = Layout(tp=2, num_gpus=2)
    assert words("vllm", two, kv_dtype="fp8") == (
        "vllm serve org/name --tensor-parallel-size 2 --max-model-len 4096 --kv-cache-dtype fp8 --max-num-seqs 64"
    )
    attention = Layout(tp=8, dp=8, ep=8, dp_attention=True, num_gpus=8)
    assert words("sglang", attention, kv_dtype="fp8") == (
        "python3 -m sglang.launch_server --model-path org/name --tp-size 8 --dp-size 8 --enable-dp-attention --ep-size 8 "
        "--context-length 4096 --kv-cache-dtype fp8_e4m3 --max-running-requests 64"
    )
    assert words("trtllm", two) == (
        "trtllm-serve org/name --tensor_parallel_size 2 --max_seq_len 4096 --max_batch_size 64"
    )
    assert words("llamacpp", Layout(), model="org/name-GGUF:Q4_K_M", sequences=4) == (
        "llama-server --hf-repo org/name-GGUF:Q4_K_M --ctx-size 16384 --parallel 4 --gpu-layers 999"
    )
    assert words("llamacpp", Layout(), model="./a.gguf", sequences=None).startswith("llama-server --model ./a.gguf -")
    assert words("vllm", Layout(pp=2, pp_layers=(30, 18), num_gpus=2)).startswith("VLLM_PP_LAYER_PARTITION=30,18 vllm ")


def test_nodes() -> None:
    layout = Layout(dp=16, ep=16, dp_attention=True, num_nodes=2, num_gpus=16)
    launch = Launch("vllm", "org/name", layout, 4096, engine_version="0.33.0")
    follower = launch_words(launch, Place("1", "10.0.0.1", follows=True))
    first = launch_words(launch, Place("0", "10.0.0.1"))
    address = ["--master-addr", "10.0.0.1", "--data-parallel-address", "10.0.0.1"]
    assert list(first[-6:]) == ["--node-rank", "0", *address]
    assert list(follower) == [*first[:-5], "1", *address, "--headless"]
    trtllm = Launch("trtllm", "org/name", Layout(tp=16, num_nodes=2, num_gpus=16), 4096)
    assert launch_words(trtllm)[:2] == ("trtllm-llmapi-launch", "trtllm-serve")
    assert launch_words(trtllm)[-2:] == ("--gpus_per_node", "8")


def test_what_trtllm_has_no_flag_for_stands_in_its_file() -> None:
    layout = Layout(tp=8, dp=8, ep=8, dp_attention=True, num_gpus=8)
    settings: dict[str, Value] = {
        "kv_cache_config.max_tokens": 8192,
        "cuda_graph_config": "null",
        "moe_config.load_balancer": json.dumps({"num_slots": 288}),
        "--max_num_tokens": 4096,
    }
    launch = Launch("trtllm", "org/name", layout, 4096, revision=COMMIT, kv_dtype="fp8", settings=settings)
    command = launch_command(launch, Place(options_path="/x/o.yaml"))
    assert command.options == {
        "revision": COMMIT,
        "enable_attention_dp": True,
        "kv_cache_config": {"dtype": "fp8", "max_tokens": 8192},
        "cuda_graph_config": None,
        "moe_config": {"load_balancer": {"num_slots": 288}},
    }
    assert command.words[-2:] == ("--extra_llm_api_options", "/x/o.yaml")
    stated = read(launch)
    assert stated.layout.dp_attention is True
    assert stated.values["kv_dtype"] == "fp8"
    expected: Mapping[str, Value] = {**settings, "moe_config.load_balancer.num_slots": 288}
    assert all(expected.get(name) == value for name, value in stated.settings.items())
    assert {"kv_cache_config.max_tokens", "cuda_graph_config", "--max_num_tokens"} <= set(stated.settings)


@pytest.mark.parametrize(
    ("engine", "settings", "expected"),
    [
        ("vllm", {"--enforce-eager": True, "--enable-prefix-caching": False}, ["--enforce-eager", "--no-enable-prefix-caching"]),
        ("vllm", {"--cudagraph-capture-sizes": "1,2,4"}, ["--cudagraph-capture-sizes", "1", "2", "4"]),
        ("vllm", {"--cpu-offload-gb": 3 * 2**29}, ["--cpu-offload-gb", "1.5"]),
        ("vllm", {"--kv-cache-memory-bytes": 10**9}, ["--kv-cache-memory-bytes", "1000000000"]),
        ("vllm", {"--speculative-config": '{"method":"mtp"}'}, ["--speculative-config", '{"method":"mtp"}']),
        ("sglang", {"--chunked-prefill-size": -1}, ["--chunked-prefill-size=-1"]),
        ("llamacpp", {"--n-cpu-moe": 12, "--gpu-layers": "all"}, ["--n-cpu-moe", "12"]),
    ],
)  # fmt: skip
def test_settings(engine: str, settings: Mapping[str, Value], expected: Sequence[str]) -> None:
    launch = Launch(engine, "org/name", Layout(), 4096, settings=settings)
    words = list(launch_words(launch))
    assert any(words[place : place + len(expected)] == list(expected) for place in range(len(words)))
    stated = read(launch).settings
    assert {name: stated[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("launch", "told"),
    [
        (Launch("transformers", "org/name", Layout(), 1), "no command that serves a model"),
        (Launch("vllm", "org/name", Layout(tp=8, ep=4, num_gpus=8), 1), "expert-parallel"),
        (Launch("llamacpp", "org/name", Layout(dp=2, num_gpus=2), 1), "data-parallel"),
        (Launch("llamacpp", "org/name", Layout(), 1, utilization_fraction=0.5), "--utilization"),
        (Launch("llamacpp", "org/name", Layout(), 1, quantization="fp8"), "--quantization"),
        (Launch("llamacpp", "org/name", Layout(pp=2, pp_layers=(40, 8), num_gpus=2), 1), "evenly"),
        (Launch("trtllm", "org/name", Layout(redundant_experts=2), 1), "redundant"),
        (Launch("trtllm", "org/name", Layout(pp=2, pp_layers=(30, 18), num_gpus=2), 1), "--pp-layers"),
        (Launch("vllm", "org/name", Layout(tp=9, num_nodes=2, num_gpus=9), 1), "do not divide"),
        (Launch("vllm", "org/name", Layout(tp=16, num_nodes=2, num_gpus=16), 1, engine_version="0.9.2"), "--nnodes"),
        (Launch("vllm", "org/name", Layout(), 1, settings={"--no-such-flag": 1}), "--no-such-flag"),
        (Launch("vllm", "org/name", Layout(), 0), "no whole number"),
    ],
)  # fmt: skip
def test_what_an_engine_has_no_word_for(launch: Launch, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        launch_words(launch)
    assert caught.value.hint


HOSTILE = (
    "", " ", "a b", "a\nb", "-rf", "--model", "true", "a\x00b", "\t", "$@", "$EXTRA_ARGS", "serve", "\\", "--",
)  # fmt: skip
SAYABLE = (
    "org/na'me",
    'org/na"me',
    "org/$(id)",
    "org/{x}",
    "org/{{x}}",
    "C:/x/y",
    "org/a:b",
    "org/;rm",
    "org/ä",
    "`x`",
)


@pytest.mark.parametrize("model", [*HOSTILE, *SAYABLE])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "llamacpp"])
def test_odd_names_of_models(engine: str, model: str) -> None:
    """A name is one word of the command, as it is, or there is no command."""
    launch = Launch(engine, model, Layout(), 4096)
    try:
        words = launch_words(launch)
    except InputError:
        assert model not in SAYABLE
        return
    assert launch_command(launch).words.count(model) == 1
    assert read_stated(engine, {}, shlex.split(shlex.join(words))).model == model
