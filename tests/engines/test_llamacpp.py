"""llama.cpp's rules, held against public logs (obs-d-NNN) and against what build b11312 itself reserves.

"b11312 reserves" means: the library was built from its sources without a GPU, given the metadata of a model and remote
devices (`no_alloc`), and its own log was read: which layers it puts where, sizes of caches, of compute buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import Any

import pytest

from moeplan.core.deployment import Deployment, Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.hardware import usable
from moeplan.core.kv_cache import cache_cost, cache_rows
from moeplan.core.layout import AskedLayout, Layout
from moeplan.core.ledger import total_bytes
from moeplan.core.model import LatentAttention, Layer, ModelSpec
from moeplan.core.placement import RankView, host_layers, places, rank_bytes, stage_spec
from moeplan.core.quant import BF16, Quantisation, holdings
from moeplan.core.units import GIB, MIB
from moeplan.core.weights import inventory
from moeplan.engines import llamacpp
from moeplan.sources.engine_constants import engine_constants
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.models import find_model
from moeplan.sources.quantisation import what_if


def serve(
    model: str,
    context: int = 4096,
    sequences: int = 1,
    devices: int = 1,
    stated: Mapping[str, Value] | None = None,
    *,
    quant: str | None = None,
    version: str | None = None,
    gpu: str | None = "h100-sxm",
    kv_dtype: str | None = None,
    layout: Layout | None = None,
) -> Serving:
    loaded = find_model(model)
    spec = loaded.spec
    quantisation = what_if(quant, spec) if quant else loaded.quantisation or Quantisation("bf16", BF16)
    hardware = find_hardware(gpu)[0] if gpu else None
    found = layout or llamacpp.resolve_layout(spec, AskedLayout(), devices, stated or {})
    deployment = Deployment("llamacpp", context, sequences, kv_dtype=kv_dtype, layout=found, stated=stated or {})
    return Serving(
        spec, inventory(spec), quantisation, deployment, hardware, usable(hardware) if hardware else None,
        engine_constants("llamacpp", version),
    )  # fmt: skip


def rank_views(serving: Serving) -> tuple[Settings, list[RankView]]:
    settings = llamacpp.settle(serving)
    division = llamacpp.division(serving, settings)
    views = []
    for place in places(serving.layout, division, len(serving.spec.layers), 1):
        spec = stage_spec(serving.spec, place.stage)
        views.append(RankView(place, division, spec, cache_rows(spec)))
    return settings, views


def rules(spec: ModelSpec, **asked: Any) -> Any:
    values: dict[str, Any] = {"asked": None, "scheme": None, "weight_dtype": "bfloat16", "capability": None}
    return llamacpp.cache_rules(spec, **(values | asked))


def cache_mib(serving: Serving) -> list[float]:
    settings, views = rank_views(serving)
    asked = serving.deployment
    return [
        llamacpp.managed_cache_bytes(
            serving, settings, view, rules(serving.spec), asked.context_tokens, asked.concurrency
        )
        / MIB
        for view in views
    ]


def weights_mib(serving: Serving) -> tuple[list[float], float]:
    """Weights on each device and on the host."""
    settings, views = rank_views(serving)
    on_host = llamacpp.host_share(serving, settings)
    held = [each for each in holdings(serving.owned, serving.quantisation) if each.part == "text"]
    devices = [
        sum(rank_bytes(each, view.place, view.division, on_host=on_host) for each in held) / MIB for view in views
    ]
    host = 0.0 if on_host is None else sum(
        each.num_bytes * host_layers(each, on_host) / (len(each.layers) or 1) for each in held
    )  # fmt: skip
    return devices, host / MIB


# Settings --------------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_server() -> None:
    serving = serve("qwen3-30b-a3b", 8192, 4)
    settings = llamacpp.settle(serving)
    assert settings.options[0].flag == "memory_fraction"
    assert settings.options[0].value == 1.0
    # A context per sequence: `--ctx-size` is that of all of them.
    assert settings.value("--ctx-size") == 4 * 8192
    assert settings.value("--parallel") == 4
    # common/common.h
    assert settings.value("--batch-size") == 2048
    assert settings.value("--ubatch-size") == 512
    assert settings.value("--cache-type-k") == settings.value("--cache-type-v") == "f16"
    assert {option.origin for option in settings.options} == {"default", "inferred"}


def test_stated_settings_win() -> None:
    stated: dict[str, Value] = {"--ubatch-size": 1024, "--cache-type-v": "q4_0", "--cpu-moe": True}
    settings = llamacpp.settle(serve("qwen3-30b-a3b", stated=stated, kv_dtype="q8_0"))
    assert settings.value("--ubatch-size") == 1024
    assert settings.value("--cache-type-k") == "q8_0"
    assert settings.value("--cache-type-v") == "q4_0"
    assert settings.on("--cpu-moe")


def test_the_whole_device_may_be_used() -> None:
    serving = serve("qwen3-30b-a3b")
    assert llamacpp.budget_bytes(serving, llamacpp.settle(serving), 24 * GIB, ()) == 24 * GIB


# Layers on devices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "devices", "stated", "counts"),
    [
        # First layers of each device as b11312 logs them; the output is one unit more, on the last device.
        ("qwen3-30b-a3b", 2, {}, (25, 23)),
        ("qwen3-30b-a3b", 3, {}, (17, 16, 15)),
        ("qwen3-30b-a3b", 2, {"--tensor-split": "3,1"}, (37, 11)),
        # Layers 0 to 18 stay on the host and count to the first device.
        ("qwen3-30b-a3b", 2, {"--gpu-layers": 30}, (34, 14)),
        # A second device too small for the output holds nothing.
        ("qwen3-30b-a3b", 2, {"--tensor-split": "99,1"}, (48,)),
        ("qwen3-30b-a3b", 2, {"--tensor-split": "0,1"}, (0, 48)),
        ("qwen3-30b-a3b", 2, {"--gpu-layers": 1}, (48,)),
        ("qwen3-30b-a3b", 2, {"--gpu-layers": 0}, (48,)),
        ("deepseek-r1", 8, {}, (8, 8, 8, 7, 8, 8, 8, 6)),
        ("deepseek-r1", 8, {"--gpu-layers": 40}, (27, 5, 5, 5, 5, 5, 5, 4)),
        ("llama-3.1-8b-instruct", 3, {"--tensor-split": "0.3,0.3,0.4"}, (10, 10, 12)),
    ],
)
def test_layers_go_to_devices_as_llama_cpp_puts_them(
    model: str, devices: int, stated: Mapping[str, Value], counts: tuple[int, ...]
) -> None:
    layout = llamacpp.resolve_layout(find_model(model).spec, AskedLayout(), devices, stated)
    assert layout.pp_layers == counts
    assert layout.pp == layout.num_gpus == len(counts)


def test_split_modes() -> None:
    spec = find_model("qwen3-30b-a3b").spec
    none = llamacpp.resolve_layout(spec, AskedLayout(), 4, {"--split-mode": "none"})
    assert (none.pp, none.num_gpus) == (1, 1)
    tensor = llamacpp.resolve_layout(spec, AskedLayout(), 4, {"--split-mode": "tensor"})
    assert (tensor.tp, tensor.pp, tensor.num_gpus) == (4, 1, 4)
    assert llamacpp.resolve_layout(spec, AskedLayout(tp=2), None, {}).tp == 2


@pytest.mark.parametrize(
    ("asked", "devices", "stated"),
    [
        (AskedLayout(dp=2), 2, {}),
        (AskedLayout(ep=2), 2, {}),
        (AskedLayout(num_nodes=2), 2, {}),
        (AskedLayout(pp=3), 2, {}),
        (AskedLayout(pp=2), 2, {"--split-mode": "tensor"}),
        (AskedLayout(), 1, {"--tensor-split": "3,1"}),
        (AskedLayout(), 2, {"--tensor-split": "a,b"}),
    ],
)
def test_layouts_that_llama_cpp_has_no_word_for(asked: AskedLayout, devices: int, stated: Mapping[str, Value]) -> None:
    with pytest.raises(InputError):
        llamacpp.resolve_layout(find_model("qwen3-30b-a3b").spec, asked, devices, stated)


# Weights ---------------------------------------------------------------------------------------------------


def test_obs_d_018_part_of_the_layers_on_the_device() -> None:
    # b5466, -ngl 30 of 49: 10750.86 MiB on the device and 6940.48 MiB on the host. That build took the output last.
    serving = serve("qwen3-30b-a3b", stated={"--gpu-layers": 30}, quant="q4_k_m", version="b5466")
    devices, host = weights_mib(serving)
    assert isclose(devices[0], 10750.86, abs_tol=0.01)
    assert isclose(host, 6940.48, abs_tol=0.01)


def test_the_output_goes_first_since() -> None:
    # The output, 151936 x 2048 in q6_k (210 B per 256), and its norm in 32 bit, for one layer of q4_k_m.
    old = serve("qwen3-30b-a3b", stated={"--gpu-layers": 30}, quant="q4_k_m", version="b5466")
    new = serve("qwen3-30b-a3b", stated={"--gpu-layers": 30}, quant="q4_k_m")
    output = (151936 * 2048 // 256 * 210 + 4 * 2048) / MIB
    # Layer 18 has no more bits: (18 - 48 // 8) % 3 == 0. All its matrices are q4_k (144 B per 256): experts 3 x 128 x
    # 768 x 2048, queries and output 2 x 4096 x 2048, keys and values 2 x 512 x 2048; router 128 x 2048 and norms
    # 2 x 2048 + 2 x 128 in 32 bit.
    layer = (3 * 128 * 768 * 2048 + 2 * 4096 * 2048 + 2 * 512 * 2048) // 256 * 144
    layer += 4 * (128 * 2048 + 2 * 2048 + 2 * 128)
    assert isclose(weights_mib(new)[0][0] - weights_mib(old)[0][0], output - layer / MIB, abs_tol=0.001)


def test_obs_d_009_eight_devices() -> None:
    # Free memory differed a little between the cards: seven layers were on the seventh and not on the fourth.
    layout = Layout(pp=8, pp_layers=(8, 8, 8, 8, 8, 8, 7, 6), num_gpus=8)
    devices, host = weights_mib(serve("deepseek-r1", devices=8, quant="q4_k_m", layout=layout))
    observed = [35642.36, 52215.3, 51287.7, 52215.3, 52215.3, 51287.7, 46963.85, 43364.99]
    assert all(isclose(mine, theirs, abs_tol=0.01) for mine, theirs in zip(devices, observed, strict=True))
    assert isclose(host, 497.11, abs_tol=0.01)


def test_experts_of_all_layers_on_the_host() -> None:
    # q4_k_m of Qwen3-30B: per layer gate and up in q4_k, down in q6_k where more bits are used (24 of 48 layers).
    expert = 128 * 768 * 2048
    gate_up, down4, down6 = 2 * expert // 256 * 144, expert // 256 * 144, expert // 256 * 210
    experts = 48 * gate_up + 24 * down4 + 24 * down6
    table = 151936 * 2048 // 256 * 144
    _, host = weights_mib(serve("qwen3-30b-a3b", stated={"--cpu-moe": True}, quant="q4_k_m"))
    assert isclose(host, (experts + table) / MIB)
    _, host = weights_mib(serve("qwen3-30b-a3b", stated={"--override-tensor": r"\.ffn_.*_exps\.=CPU"}, quant="q4_k_m"))
    assert isclose(host, (experts + table) / MIB)


def test_experts_of_the_first_layers_on_the_host() -> None:
    # Layers 0 to 5 all have more bits in down (48 // 8 = 6).
    expert = 128 * 768 * 2048
    table = 151936 * 2048 // 256 * 144
    _, host = weights_mib(serve("qwen3-30b-a3b", stated={"--n-cpu-moe": 6}, quant="q4_k_m"))
    assert isclose(host, (6 * (2 * expert // 256 * 144 + expert // 256 * 210) + table) / MIB)


def test_down_projections_alone_on_the_host() -> None:
    expert = 128 * 768 * 2048
    down = 24 * (expert // 256 * 144) + 24 * (expert // 256 * 210)
    table = 151936 * 2048 // 256 * 144
    _, host = weights_mib(serve("qwen3-30b-a3b", stated={"--override-tensor": "ffn_down_exps=CPU"}, quant="q4_k_m"))
    assert isclose(host, (down + table) / MIB)


@pytest.mark.parametrize(
    ("stated", "share"),
    [
        # Half of a stored pair stays where one of its two tensors is named.
        ({"--override-tensor": r"ffn_up_exps=CPU"}, 0.5),
        ({"--override-tensor": r"blk\.[0-3]\.=CPU"}, 1.0),
        # The first pattern that is found decides.
        ({"--override-tensor": r"blk\.3\..*exps=CUDA0;exps=CPU"}, 0.0),
        ({"--override-tensor": ("exps=CUDA0", "exps=CPU")}, 0.0),
        ({"--override-tensor": "attn=CPU"}, 0.0),
        ({"--cpu-moe": True}, 1.0),
        ({"--n-cpu-moe": 3}, 0.0),
        ({"--n-cpu-moe": 4}, 1.0),
        ({"--gpu-layers": 20}, 1.0),
    ],
)
def test_share_of_a_pair_of_expert_matrices_on_the_host(stated: dict[str, Any], share: float) -> None:
    serving = serve("gpt-oss-20b", stated=stated)
    on_host = llamacpp.host_share(serving, llamacpp.settle(serving))
    pair = next(entry.weight for entry in serving.owned if entry.weight.name.endswith("experts.gate_up_proj"))
    assert on_host is not None
    assert on_host(pair, 3) == share


def test_what_is_beside_layers() -> None:
    serving = serve("qwen3-30b-a3b")
    on_host = llamacpp.host_share(serving, llamacpp.settle(serving))
    by_role = {entry.weight.role: entry.weight for entry in serving.owned if not entry.layers}
    assert on_host is not None
    assert on_host(by_role["embedding"], None) == 1.0
    assert on_host(by_role["lm_head"], None) == 0.0
    none = serve("qwen3-30b-a3b", stated={"--gpu-layers": 0})
    on_host = llamacpp.host_share(none, llamacpp.settle(none))
    assert on_host is not None
    assert on_host(by_role["lm_head"], None) == 1.0


@pytest.mark.parametrize("text", ["exps", "=CPU", "(=CPU"])
def test_overrides_that_are_none(text: str) -> None:
    serving = serve("qwen3-30b-a3b", stated={"--override-tensor": text})
    with pytest.raises(InputError):
        llamacpp.host_share(serving, llamacpp.settle(serving))


def test_a_tied_table_is_copied_to_the_output() -> None:
    # Gemma 3 27B, tied: 262208 x 5376 in q6_k.
    serving = serve("gemma-3-27b-it", devices=2, quant="q4_k_m")
    settings, (first, last) = rank_views(serving)
    (copy,) = llamacpp.weight_lines(serving, settings, last)
    assert copy.bytes == 262208 * 5376 // 256 * 210
    assert llamacpp.weight_lines(serving, settings, first) == ()


def test_routers_and_vectors_of_16_bit_files_are_32_bit() -> None:
    # Qwen3-30B: router 128 x 2048, norms 2 x 2048 + 2 x 128 in 48 layers; the output norm is beside the layers.
    serving = serve("qwen3-30b-a3b")
    settings, (view,) = rank_views(serving)
    (more,) = llamacpp.weight_lines(serving, settings, view)
    assert more.bytes == 2 * 48 * (128 * 2048 + 2 * 2048 + 2 * 128)


# Cache -----------------------------------------------------------------------------------------------------


def test_obs_d_013_window_and_full_layers() -> None:
    # gpt-oss-120b, n_ctx 262144 for 2 sequences, ubatch 1024: 9216 MiB of full layers, 90 MiB of 1280 window cells.
    serving = serve("gpt-oss-120b", 131072, 2, stated={"--ubatch-size": 1024})
    assert cache_mib(serving) == [9216 + 90]


def test_obs_d_014_quantised_cache() -> None:
    types: dict[str, Value] = {"--cache-type-k": "q8_0", "--cache-type-v": "q8_0"}
    assert cache_mib(serve("qwen3-235b-a22b", 32768, stated=types)) == [3196.0]
    # As b11312 prints it: q8_0 keys and q4_0 values of 48 layers, 8192 cells.
    types = {"--cache-type-k": "q8_0", "--cache-type-v": "q4_0"}
    assert cache_mib(serve("qwen3-30b-a3b", 8192, stated=types)) == [312.0]


def test_obs_d_008_latent_cache() -> None:
    types: dict[str, Value] = {"--cache-type-k": "q8_0", "--cache-type-v": "q8_0"}
    (found,) = cache_mib(serve("deepseek-r1", 32768, stated=types))
    assert isclose(found, 1166.65, abs_tol=0.03)


@pytest.mark.parametrize(
    ("model", "context", "sequences", "stated", "mib"),
    [
        # As b11312 prints them ("size = ... MiB"); in the order full, window, states.
        ("gpt-oss-120b", 16384, 4, {}, 2304 + 108),
        ("gpt-oss-120b", 16384, 4, {"--kv-unified": True}, 2304 + 36),
        ("gpt-oss-20b", 8192, 1, {"--swa-full": True}, 192 + 192),
        # 5000 tokens for 3 sequences are 1667 each, padded to 1792; the window keeps 1024 + 512.
        ("gemma-3-27b-it", 1667, 3, {}, 420 + 1872),
        ("qwen3-next-80b-a3b-instruct", 32768, 1, {}, 768 + 75.375),
        ("qwen3-next-80b-a3b-instruct", 8192, 4, {}, 768 + 301.5),
        ("glm-4.7-flash", 1667, 3, {}, 277.59375),
        ("deepseek-v3.2", 8192, 2, {}, 1098 + 244),
        # Windows, two sorts of entries, indexer keys, and the states of three compressors (21 x 128 KiB, 20 x 1 MiB).
        ("deepseek-v4-flash", 8192, 2, {}, 64.5 + 84 + 10 + 21 + 2.625 + 20 + 0.65625),
        ("olmoe-1b-7b-0924", 512, 1, {}, 64.0),
    ],
)
def test_caches_are_those_that_llama_cpp_allocates(
    model: str, context: int, sequences: int, stated: Mapping[str, Value], mib: float
) -> None:
    assert cache_mib(serve(model, context, sequences, stated=stated)) == [mib]


def test_states_of_kimi_linear() -> None:
    # b11312 prints 108 MiB of latents (6 layers) and 89.91 MiB of states (21 layers) for 2 sequences of 8192:
    # convolution 3 x 3 x 32 x 128 and state 32 x 128 x 128 in 32 bit.
    state = 4 * (3 * 3 * 32 * 128 + 32 * 128 * 128)
    (found,) = cache_mib(serve("kimi-linear-48b-a3b-instruct", 8192, 2))
    assert found == 108 + 21 * 2 * state / MIB
    assert isclose(21 * 2 * state / MIB, 89.91, abs_tol=0.01)


def test_caches_lie_with_their_layers() -> None:
    # b11312: 384 MiB in 48 layers; of two devices the first has layers 19 to 33, the second 34 to 47.
    stated: dict[str, Value] = {"--gpu-layers": 30}
    serving = serve("qwen3-30b-a3b", 4096, devices=2, stated=stated)
    assert cache_mib(serving) == [384 * 15 / 48, 384 * 14 / 48]
    lines = {entry.code: entry.bytes for entry in llamacpp.host_lines(serving, llamacpp.settle(serving))}
    assert lines["host.kv_cache"] == 384 * MIB * 19 // 48


def test_no_cache_on_the_device() -> None:
    serving = serve("qwen3-30b-a3b", 32768, stated={"--no-kv-offload": True})
    assert cache_mib(serving) == [0]
    lines = {entry.code: entry.bytes for entry in llamacpp.host_lines(serving, llamacpp.settle(serving))}
    assert lines["host.kv_cache"] == 3072 * MIB


def test_unused_draft_layers_had_a_cache() -> None:
    # GLM-4.5-Air: 46 layers and one draft layer of 8 heads of 128, keys and values.
    per_layer = 2 * 8 * 128 * 2 * 4096 / MIB
    assert cache_mib(serve("glm-4.5-air", version="b10820")) == [47 * per_layer]
    assert cache_mib(serve("glm-4.5-air")) == [46 * per_layer]


def test_values_are_as_wide_as_the_widest_without_flash_attention() -> None:
    # Gemma 4 26B: heads of window and full layers differ; values lie transposed and padded (llama-kv-cache.cpp).
    serving = serve("gemma-4-26b-a4b", 4096, stated={"--flash-attn": "off"})
    flat = serve("gemma-4-26b-a4b", 4096)
    grouped = [mixer for layer in serving.spec.layers for mixer in layer.mixers]
    widths = [mixer.num_kv_heads * mixer.value_head_dim for mixer in grouped]  # type: ignore[union-attr]
    cells = [4096 if mixer.window_tokens is None else 1536 for mixer in grouped]  # type: ignore[union-attr]
    more = sum(2 * (max(widths) - width) * count for width, count in zip(widths, cells, strict=True))
    assert isclose(cache_mib(serving)[0] - cache_mib(flat)[0], more / MIB)


def test_windows_that_llama_cpp_does_not_keep() -> None:
    # phi3.cpp: swa_type none; its layers cache the whole context.
    phi = find_model("phi-3.5-mini-instruct").spec
    assert rules(phi).accounting == "manager_off"
    assert set(llamacpp.window_accountings(serve("phi-3.5-mini-instruct"), rules(phi))) == {"manager_off"}
    oss = find_model("gpt-oss-20b").spec
    assert rules(oss).accounting == "ideal"
    assert set(llamacpp.window_accountings(serve("gpt-oss-20b"), rules(oss))) == {"ideal", "manager_off"}


def test_cache_dtype_follows_nothing_but_the_flag() -> None:
    spec = find_model("deepseek-r1").spec
    assert rules(spec, scheme="fp8").kv_dtype == "float16"
    assert rules(spec, asked="bfloat16").kv_dtype == "bfloat16"
    assert rules(spec, asked="q8_0").kv_dtype == "q8_0"
    with pytest.raises(InputError):
        rules(spec, asked="fp8")


def test_the_plain_cost_agrees_with_the_cells() -> None:
    # Where context is a multiple of 256 and there is neither window nor state, cells are the tokens.
    spec = find_model("glm-4.7-flash").spec
    cost = cache_cost(cache_rows(spec), rules(spec), 8192)
    assert cost.bytes_at_context / MIB == cache_mib(serve("glm-4.7-flash", 8192))[0]


def test_prints_the_cells() -> None:
    serving = serve("qwen3-30b-a3b", 1667, 3)
    settings, (view,) = rank_views(serving)
    printed = llamacpp.prints(serving, settings, view, rules(serving.spec), 10 * GIB)
    assert printed is not None
    assert printed.kv_tokens == 3 * 1792


# Buffers ---------------------------------------------------------------------------------------------------

RESERVED = [
    # model, context, sequences, ubatch, flash attention, MiB per device as b11312 reserves them, host MiB
    ("qwen3-30b-a3b", 32768, 1, 512, "on", (116.01,), 40.01),
    ("qwen3-30b-a3b", 32768, 1, 2048, "on", (464.05,), 160.05),
    ("qwen3-30b-a3b", 8192, 4, 512, "on", (92.01,), 16.01),
    ("qwen3-30b-a3b", 32768, 1, 512, "on", (228.04, 244.04), 148.05),
    ("qwen3-30b-a3b", 32768, 1, 512, "off", (2138.01,), None),
    ("qwen3-235b-a22b", 32768, 1, 512, "on", (328.04, 360.04), 168.05),
    ("gpt-oss-120b", 131072, 2, 1024, "on", (432.04,), 281.04),
    ("gpt-oss-20b", 32768, 1, 512, "on", (119.52,), 44.02),
    ("deepseek-r1", 32768, 1, 512, "on", (410.01,), 60.01),
    ("deepseek-r1", 4096, 1, 512, "off", (1410.01,), 36.01),
    ("deepseek-v2-lite", 32768, 1, 512, "on", (108.13,), 40.01),
    ("glm-4.7-flash", 32768, 1, 512, "on", (110.01,), 40.01),
    ("llama-3.1-8b-instruct", 32768, 1, 512, "on", (140.01,), 48.01),
    ("mixtral-8x7b-v0.1", 32768, 1, 512, "on", (224.01,), 48.01),
    ("qwen3-next-80b-a3b-instruct", 32768, 1, 512, "on", (114.01,), 40.01),
    ("minimax-m2", 32768, 1, 512, "on", (128.01,), 44.01),
    ("gemma-3-27b-it", 32768, 1, 512, "on", (188.52,), 54.52),
    ("olmoe-1b-7b-0924", 512, 1, 512, "on", (60.51,), 8.51),
]


@pytest.mark.parametrize("row", RESERVED, ids=lambda row: f"{row[0]} {row[1]}x{row[2]} {row[3]} {row[4]} {len(row[5])}")
def test_compute_buffers_are_close_to_those_that_llama_cpp_reserves(row: Any) -> None:
    model, context, sequences, ubatch, flash, devices, host = row
    stated: dict[str, Value] = {"--ubatch-size": ubatch, "--flash-attn": flash}
    serving = serve(model, context, sequences, len(devices), stated)
    settings, views = rank_views(serving)
    for view, reserved in zip(views, devices, strict=True):
        buffer = llamacpp.runtime_lines(serving, settings, view)[0]
        assert buffer.code == "compute_buffer"
        # `activations_factor` of the constants: 4.6 % below to 6.7 % above.
        assert -0.047 <= buffer.bytes / MIB / reserved - 1 <= 0.067
        assert buffer.low_bytes / MIB <= reserved * 1.001
        assert reserved <= buffer.high_bytes / MIB * 1.01
    if host is not None:
        lines = {entry.code: entry.bytes for entry in llamacpp.host_lines(serving, settings)}
        assert isclose(lines["host.compute_buffer"] / MIB, host, abs_tol=0.1)


def test_logits_of_all_tokens_before_they_were_limited() -> None:
    # 512 x 151936 x 4 B: what builds before b9464 reserve, and any that is told no limit (b11312: 300.75 MiB with masks).
    serving = serve("qwen3-30b-a3b", 4096, version="b5466")
    settings, (view,) = rank_views(serving)
    buffer = llamacpp.runtime_lines(serving, settings, view)[0]
    assert buffer.why.inputs["logits_bytes"] == 512 * 151936 * 4
    assert buffer.bytes >= 512 * 151936 * 4


def test_experts_on_the_host_are_copied_to_the_device() -> None:
    # ggml-org/llama.cpp#23527: 1982 MiB with -c 150000 -ub 4096 --kv-unified --cpu-moe, the mask in 16 bit and logits
    # limited, of a model of this shape in a 4-bit mix.
    stated: dict[str, Value] = {
        "--ubatch-size": 4096, "--batch-size": 4096, "--cpu-moe": True, "--kv-unified": True,
        "--cache-type-k": "q8_0", "--cache-type-v": "q8_0",
    }  # fmt: skip
    serving = serve("qwen3.5-35b-a3b", 150000, stated=stated, quant="q4_k_m")
    settings, (view,) = rank_views(serving)
    buffer = llamacpp.runtime_lines(serving, settings, view)[0]
    assert isclose(buffer.bytes / MIB, 1982, rel_tol=0.05)
    # The largest: 256 x 512 x 2048 in q6_k.
    assert buffer.why.inputs["copied_weights_bytes"] == 256 * 512 * 2048 // 256 * 210
    kept = serve("qwen3.5-35b-a3b", 150000, stated=stated | {"--op-offload": False}, quant="q4_k_m")
    assert llamacpp.runtime_lines(kept, llamacpp.settle(kept), view)[0].why.inputs["copied_weights_bytes"] == 0


def test_a_quantised_cache_is_converted_for_flash_attention() -> None:
    # As 16-bit floats, all cells of one layer: 2 heads of 256, keys and values, 150016 cells, 2 B.
    types: dict[str, Value] = {"--cache-type-k": "q8_0", "--cache-type-v": "q8_0", "--kv-unified": True}
    serving = serve("qwen3.5-35b-a3b", 150000, stated=types)
    settings, (view,) = rank_views(serving)
    buffer = llamacpp.runtime_lines(serving, settings, view)[0]
    assert buffer.why.inputs["scores_bytes"] == 2 * 150016 * 2 * (256 + 256)


def test_overridden_tensors_end_the_pipeline() -> None:
    plain = serve("qwen3-30b-a3b", 32768, devices=2)
    moved = serve("qwen3-30b-a3b", 32768, devices=2, stated={"--n-cpu-moe": 1})
    for serving, copies in ((plain, 4), (moved, 1)):
        settings, views = rank_views(serving)
        assert llamacpp.runtime_lines(serving, settings, views[1])[0].why.inputs["copies"] == copies


def test_host_memory() -> None:
    serving = serve("qwen3-30b-a3b", 8192, 4)
    lines = {entry.code: entry for entry in llamacpp.host_lines(serving, llamacpp.settle(serving))}
    # b11312 prints 2.32 MiB: 151936 x 4 sequences x 4 B.
    assert lines["host.output"].bytes == 151936 * 4 * 4
    # 8192 MiB (common/common.h) that fill in time.
    assert (lines["host.prompt_cache"].bytes, lines["host.prompt_cache"].high_bytes) == (0, 8192 * MIB)
    none = serve("qwen3-30b-a3b", 8192, 4, stated={"--cache-ram": 0})
    assert "host.prompt_cache" not in {entry.code for entry in llamacpp.host_lines(none, llamacpp.settle(none))}


def test_checkpoints_copy_windows_and_states() -> None:
    # Qwen3-Next, 75.375 MiB of states per sequence; 32768 tokens, a checkpoint each 8192.
    serving = serve("qwen3-next-80b-a3b-instruct", 32768, 2)
    lines = {entry.code: entry for entry in llamacpp.host_lines(serving, llamacpp.settle(serving))}
    assert lines["host.checkpoints"].high_bytes == 2 * 4 * 75.375 * MIB


def test_a_processor_has_one_memory() -> None:
    serving = serve("qwen3-30b-a3b", gpu="cpu-12ch-ddr5-6000", quant="q4_k_m")
    settings, (view,) = rank_views(serving)
    assert llamacpp.host_share(serving, settings) is None
    assert llamacpp.host_lines(serving, settings) == ()
    assert "device_context" not in {entry.code for entry in llamacpp.runtime_lines(serving, settings, view)}


def test_weights_are_the_peak_while_loading() -> None:
    serving = serve("qwen3-30b-a3b")
    settings, (view,) = rank_views(serving)
    assert llamacpp.load_peak_bytes(serving, settings, view) == total_bytes(view.weights)


# Refusals and doubts ---------------------------------------------------------------------------------------


def codes(serving: Serving) -> set[str]:
    return {refusal.code for refusal in llamacpp.refusals(serving, llamacpp.settle(serving))}


@pytest.mark.parametrize(
    ("model", "context", "sequences", "stated", "code"),
    [
        # b11312: "does not support different K (q8_0) and V (q4_0) cache types"
        ("glm-4.7-flash", 4096, 1, {"--cache-type-k": "q8_0", "--cache-type-v": "q4_0"}, "cache-types-differ"),
        # b11312: "quantized V cache requires flash_attn to be enabled"
        (
            "qwen3-30b-a3b", 4096, 1, {"--cache-type-v": "q4_0", "--flash-attn": "off"}, "values-need-flash-attention",
        ),
        ("qwen3-30b-a3b", 4096, 1, {"--cache-type-k": "q6_k"}, "cache-type-unknown"),
        # b11312: "n_seq_max must be <= 256"
        ("qwen3-30b-a3b", 4096, 300, {}, "sequences-too-many"),
        # b11312: "device ... does not support split buffers"
        ("qwen3-30b-a3b", 4096, 1, {"--split-mode": "row"}, "split-mode-row"),
        ("qwen3-30b-a3b", 4096, 1, {"--split-mode": "column"}, "split-mode-unknown"),
        ("longcat-flash-chat", 4096, 1, {}, "not-supported"),
        ("deepseek-r1", 4096, 1, {}, "no-gguf-format"),
    ],
)  # fmt: skip
def test_what_llama_cpp_refuses(
    model: str, context: int, sequences: int, stated: Mapping[str, Value], code: str
) -> None:
    assert code in codes(serve(model, context, sequences, stated=stated))


def test_heads_that_fill_no_blocks() -> None:
    spec = find_model("glm-4.7-flash").spec
    narrow = [layer._replace(mixers=tuple(_narrow(mixer) for mixer in layer.mixers)) for layer in spec.layers]
    serving = serve("glm-4.7-flash", kv_dtype="q8_0")
    assert codes(serving) == set()
    assert codes(serving._replace(spec=spec._replace(layers=tuple(narrow)))) == {"cache-block-not-divisible"}


def _narrow(mixer: Any) -> Any:
    return mixer._replace(kv_lora_rank=500) if isinstance(mixer, LatentAttention) else mixer


@pytest.mark.parametrize("model", ["gpt-oss-120b", "qwen3-30b-a3b", "mixtral-8x7b-v0.1", "glm-4.5-air"])
def test_what_runs_is_not_refused(model: str) -> None:
    assert codes(serve(model, gpu=None)) == set()
    assert codes(serve(model, quant="q4_k_m")) == set()


def told(serving: Serving) -> str:
    return " ".join(remark.message for remark in llamacpp.doubts(serving, llamacpp.settle(serving)))


def test_doubts() -> None:
    assert told(serve("qwen3-30b-a3b")) == ""
    assert "older builds" in told(serve("qwen3-30b-a3b", version="b5466"))
    assert "CUDA1" in told(serve("qwen3-30b-a3b", stated={"--override-tensor": "exps=CUDA1"}))
    assert "experimental" in told(serve("qwen3-30b-a3b", devices=2, stated={"--split-mode": "tensor"}))
    assert "indexer" in told(serve("deepseek-v3.2"))
    assert "mmproj" in told(serve("gemma-3-27b-it"))


def test_drafts_are_loaded_for_their_own_speculation() -> None:
    assert llamacpp.loads_drafts({"--spec-type": "draft-mtp"})
    assert not llamacpp.loads_drafts({"--spec-type": "draft-simple"})
    assert not llamacpp.loads_drafts({})


def test_layers_of_nothing_have_no_graph() -> None:
    # A device that only the output is on: its logits, and the hidden state that comes in.
    serving = serve("qwen3-30b-a3b", stated={"--gpu-layers": 1})
    settings, (view,) = rank_views(serving)
    buffer = llamacpp.runtime_lines(serving, settings, view)[0]
    assert buffer.why.inputs["activations_bytes"] == buffer.why.inputs["masks_bytes"] == 0
    assert Layer((), ()) not in serving.spec.layers
