"""Whole models on the CPU: bytes by hand, from the sizes of each config; bfloat16 takes 2 bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moeplan.core.measurement import MoeShape, Task
from moeplan.measure import models
from moeplan.measure.model_build import Needs, built_config, layers_that_fit, needs, num_layers_of
from moeplan.measure.session import NotMeasuredError, Session, open_session
from tests.measure.tiny_models import TINY

BATCH, PROMPT, DECODE = 2, 24, 3
SHAPE = MoeShape("small", 64, 32, 4, 2)


@pytest.fixture
def session() -> Session:
    return open_session("cpu", 0)


def task_of(name: str, **change: Any) -> Task:
    return models.model_task(name, TINY[name] | change, BATCH, PROMPT, DECODE)


def test_parameters_of_mixtral_by_hand(session: Session) -> None:
    point = models.measure(task_of("mixtral"), session)
    assert point.problem is None
    # Per layer: q and o of 32 x 32, k and v of 32 x 16; two norms; router 4 x 32; 4 experts of 3 x 32 x 48.
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 2 * 32 + 4 * 32 + 4 * 3 * 32 * 48
    assert point.values["parameter_bytes"] == 2 * (2 * layer + 2 * 96 * 32 + 32)
    assert point.values["buffer_bytes"] == 0
    # Inverse frequencies of head_dim 8, twice, in float32: in memory, in no checkpoint.
    assert point.values["scratch_buffer_bytes"] == 2 * 4 * 4
    assert point.values["load_tensor_bytes"] == point.values["parameter_bytes"] + 32


@pytest.mark.parametrize(
    ("name", "per_token_elements", "window_elements", "window"),
    [
        ("mixtral", 2 * 2 * 2 * 8, 0, 0),  # layers x (key, value) x heads x width
        ("qwen3_moe", 3 * 2 * 2 * 16, 0, 0),
        ("olmoe", 2 * 2 * 4 * 8, 0, 0),
        ("gpt_oss", 2 * 2 * 2 * 16, 2 * 2 * 2 * 16, 7),  # every second layer sees 7 tokens
        ("deepseek_v2", 3 * (32 + 8), 0, 0),  # the latent and the rope key of each layer, not the heads
    ],
)
def test_cache_by_hand(session: Session, name: str, per_token_elements: int, window_elements: int, window: int) -> None:
    values = models.measure(task_of(name), session).values
    for step, tokens in (("prefill", PROMPT), ("decode", PROMPT + DECODE)):
        elements = tokens * per_token_elements + max(0, window - 1) * window_elements
        assert values[f"{step}_cache_bytes"] == BATCH * 2 * elements


def test_window_layers_hold_whole_prompts_until_the_first_decoded_token(session: Session) -> None:
    values = models.measure(task_of("gpt_oss"), session).values
    each = BATCH * 2 * 2 * 2 * 2 * 16  # bytes of one token in the two layers of each kind
    # transformers 5.23.0 cuts the window out of the prompt's keys as a view; one more token is joined to a copy of it.
    assert values["prefill_cache_storage_bytes"] == 2 * PROMPT * each
    assert values["decode_cache_storage_bytes"] == (PROMPT + DECODE) * each + 7 * each


def test_states_of_a_hybrid_are_float32(session: Session) -> None:
    values = models.measure(task_of("qwen3_next"), session).values
    attention = 2 * 2 * 16 * (PROMPT + DECODE) * 2
    # Three delta layers: 4 value heads of 8 x 8 in float32; 2 x 2 x 8 + 4 x 8 channels over 4 columns in bfloat16.
    states = 3 * (4 * 8 * 8 * 4 + (2 * 2 * 8 + 4 * 8) * 4 * 2)
    assert values["decode_cache_bytes"] == BATCH * (attention + states)


def test_peaks_are_at_least_what_stays(session: Session) -> None:
    values = models.measure(task_of("olmoe"), session).values
    for step in ("load", "prefill", "decode"):
        assert values[f"{step}_peak_tensor_bytes"] >= values[f"{step}_tensor_bytes"] >= values["parameter_bytes"]
        if f"{step}_resident_bytes" in values:
            assert values[f"{step}_peak_resident_bytes"] >= values["parameter_bytes"]
    # Rows in and out of the experts, weighted, and in order: four times tokens x 2 experts x 32 in bfloat16.
    assert values["prefill_peak_tensor_bytes"] > values["parameter_bytes"] + 4 * BATCH * PROMPT * 2 * 32 * 2


def test_layers_can_be_asked_for(session: Session) -> None:
    task = models.model_task("gpt_oss", TINY["gpt_oss"], 1, 8, 0, num_layers=1)
    point = models.measure(task, session)
    assert point.problem is None
    assert (point.values["layers"], point.values["layers_of_model"]) == (1, 4)
    assert point.case == task.case


def test_layers_are_left_out_until_the_rest_fits(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    wanted = needs(TINY["qwen3_moe"], torch.bfloat16, BATCH, PROMPT + DECODE)
    whole = models.measure(task_of("qwen3_moe"), session)
    assert wanted.of(3) - (wanted.transient_bytes or 0) - wanted.cache_bytes == whole.values["parameter_bytes"]
    monkeypatch.setattr(session, "free_bytes", lambda: wanted.of(3) - 1)
    assert models.measure(task_of("qwen3_moe"), session).values["layers"] == 2
    monkeypatch.setattr(session, "free_bytes", lambda: wanted.of(1) - 1)
    problem = models.measure(task_of("qwen3_moe"), session).problem
    assert problem is not None
    assert problem.startswith("one layer of the model needs")


def test_what_fits_by_hand() -> None:
    # 10 around the layers, layers of 20, 30 and 40, a cache of 6 for the three, 5 in flight.
    wanted = Needs(10, (20, 30, 40), 6, 5)
    assert [wanted.of(count) for count in (1, 2, 3)] == [37, 69, 111]
    assert [layers_that_fit(wanted, 3, free) for free in (37, 68, 69, 110, 111)] == [1, 1, 2, 2, 3]
    assert layers_that_fit(wanted, 2, 1000) == 2
    # Nobody knows what a prefill needs: an eighth of 80 is kept, and 70 is enough for 10 + 20 + 30.
    assert layers_that_fit(wanted._replace(cache_bytes=0, transient_bytes=None), 3, 80) == 2
    with pytest.raises(NotMeasuredError, match="one layer"):
        layers_that_fit(wanted, 3, 36)


def test_what_fits_is_known_before_anything_is_built(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(models, "build", lambda *_: pytest.fail("it was built"))
    task, wanted = task_of("qwen3_moe"), needs(TINY["qwen3_moe"], torch.bfloat16, BATCH, PROMPT + DECODE)

    def fit(free_bytes: int, **case: Any) -> models.Fit:
        monkeypatch.setattr(session, "free_bytes", lambda: free_bytes)
        return models.fit(task._replace(case={**task.case, **case}), session)

    room = fit(wanted.of(3))
    assert (room.layers, room.layers_asked, room.layers_of_model, room.tokens) == (3, 3, 3, PROMPT + DECODE)
    assert (room.needed_bytes, room.least_bytes, room.room_bytes) == (wanted.of(3), wanted.of(1), wanted.of(3))
    assert fit(wanted.of(3) - 1)[1:3] == (3, 2)
    assert fit(wanted.of(3) - 1, num_layers=2).tokens == PROMPT + DECODE
    # Weights of three layers have no room at any length; those of one have at half of it.
    tight = fit(wanted.of(1) - 1, prompt_tokens=400)
    assert (tight.layers, tight.tokens) == (0, None)
    assert tight.fewer is not None
    layers, tokens = tight.fewer
    shorter = needs(TINY["qwen3_moe"], torch.bfloat16, BATCH, tokens)
    assert shorter.of(layers) < wanted.of(1)
    assert fit(wanted.rest_bytes).fewer is None


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 40, "vocab_size": 96}, 40),
        # Two rows in front are not for tokens.
        ({"model_type": "opt", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "ffn_dim": 64,
          "vocab_size": 96, "max_position_embeddings": 40, "word_embed_proj_dim": 32}, 40),
        (TINY["mixtral"], None),
        (TINY["deepseek_v2"], None),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else None,
)  # fmt: skip
def test_tables_of_positions_have_an_end(session: Session, config: dict[str, Any], most: int | None) -> None:
    assert models.fit(models.model_task("m", config, 1, 24, 3), session).most_tokens == most
    longer = models.measure(models.model_task("m", config, 1, 40, 3), session)
    assert (longer.problem is None) == (most is None)
    if most is not None:
        assert longer.problem == "the model's table of positions ends at 40 tokens"
        assert models.measure(models.model_task("m", config, 1, 37, 3), session).problem is None


def test_configs_are_cut_with_their_layers() -> None:
    config = {
        "model_type": "x",
        "num_hidden_layers": 3,
        "layer_types": ["a", "b", "c"],
        "eos_token_id": [1, 2, 3],
        "quantization_config": {"quant_method": "fp8"},
        "torch_dtype": "float16",
    }
    cut = {"model_type": "x", "num_hidden_layers": 2, "layer_types": ["a", "b"], "eos_token_id": [1, 2, 3]}
    assert built_config(config, 2) == cut
    assert built_config(config, 9)["num_hidden_layers"] == 3
    assert built_config({"text_config": config}, 2) == {"text_config": cut}
    assert num_layers_of({"text_config": {"n_layer": 5}}) == 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "names no model_type"),
        ('{"model_type": "mixtral"}', "how many layers"),
        ('{"model_type": "never_heard_of", "num_hidden_layers": 1}', "never_heard_of"),
    ],
)
def test_configs_that_cannot_be_built_are_problems(session: Session, text: str, told: str) -> None:
    point = models.measure(models.model_task("broken", text, 1, 4, 1), session)
    assert told in (point.problem or "")
    assert not point.values


def test_nothing_to_run_is_a_problem(session: Session) -> None:
    point = models.measure(models.model_task("mixtral", TINY["mixtral"], 0, 4, 1), session)
    assert "nothing to run" in (point.problem or "")


def test_a_missing_library_is_told(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert "moeplan[capture]" in (models.measure(task_of("mixtral"), session).problem or "")


def test_what_was_read_before_a_failure_is_kept(session: Session) -> None:
    # The first three layers are recurrent, and the library then has no layer to ask how long the cache is.
    task = models.model_task("qwen3_next", TINY["qwen3_next"], 1, 8, 1, num_layers=3)
    point = models.measure(task, session)
    assert point.problem is not None
    assert point.values["layers"] == 3
    assert point.values["parameter_bytes"] > 0
    assert "prefill_cache_bytes" not in point.values


def test_planned_models_run(session: Session) -> None:
    def plan(effort: Any, *dtypes: str) -> list[Task]:
        return list(models.plan(effort, (SHAPE, SHAPE._replace(name="other")), dtypes, session.device))

    assert plan("quick") == []
    assert len(plan("default")) == 1
    assert len(plan("full")) == 2
    assert plan("full", "int8") == []
    (task,) = plan("default", "float32")
    assert (task.dtype, json.loads(str(task.case["config"]))["num_hidden_layers"]) == ("float32", 2)
    point = models.measure(task, session)
    assert point.problem is None
    # Two layers of 4 experts of 3 x 64 x 32 in float32, and more around them.
    assert point.values["parameter_bytes"] > 2 * 4 * 3 * 64 * 32 * 4


def test_fat_shapes_are_left_out_on_the_host(session: Session) -> None:
    fat = MoeShape("mixtral-8x7b", 4096, 14336, 8, 2)
    assert list(models.plan("full", (fat,), (), session.device)) == []
    on_gpu = session.device._replace(kind="cuda")
    assert len(list(models.plan("full", (fat,), (), on_gpu))) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "deepseek_v2"])
def test_an_accelerators_allocator_holds_what_the_tensors_are(name: str) -> None:
    session = open_session(None, 0)
    wide = TINY[name] | {"vocab_size": 32_000}
    values = models.measure(models.model_task(name, wide, BATCH, PROMPT, DECODE), session).values
    loaded = values["load_allocated_bytes"] - values["start_allocated_bytes"]
    held = values["parameter_bytes"] + values["buffer_bytes"] + values["scratch_buffer_bytes"]
    assert held <= loaded < held * 1.05 + 512 * 200  # the allocator deals in 512 bytes
    assert values["prefill_peak_bytes"] >= values["prefill_allocated_bytes"] > loaded
    assert values["decode_reserved_bytes"] >= values["decode_allocated_bytes"]
    assert values["decode_device_bytes"] > values["decode_reserved_bytes"]
