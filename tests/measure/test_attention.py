from __future__ import annotations

import math

import pytest
import torch

from moeplan.core.measurement import CaseValue, Effort, Task
from moeplan.measure import attention
from moeplan.measure.attention import CacheShape
from moeplan.measure.session import Session, open_session

EFFORTS: tuple[Effort, ...] = ("quick", "default", "full")
GROUPED, LATENT = CacheShape(4, 2, 16, 16), CacheShape(4, 1, 48, 32)


@pytest.fixture
def session() -> Session:
    session = open_session("cpu", 0)
    session.budget_s = 0.01  # what is timed here is not the point
    return session


def _task(cache: CacheShape, backend: str, dtype: str = "float32", batch: int = 2, context: int = 33) -> Task:
    case: dict[str, CaseValue] = {**cache._asdict(), "batch": batch, "context": context}
    return Task("attention", backend, dtype, case)


@pytest.mark.parametrize("dtype", attention.DTYPES)
@pytest.mark.parametrize(
    ("cache", "backend"), [(cache, backend) for cache in (GROUPED, LATENT) for backend in attention.backends(cache)]
)
def test_each_backend_is_right_and_counts_the_cache(
    session: Session, cache: CacheShape, backend: str, dtype: str
) -> None:
    point = attention.measure(_task(cache, backend, dtype), session)
    assert point.problem is None
    assert point.spread is not None
    # Grouped: keys and values of 2 heads of 16. Latent: one entry of 48, whose first 32 elements are the value.
    elements = {GROUPED: 2 * 2 * 16, LATENT: 48}[cache]
    itemsize = 4 if dtype == "float32" else 2
    assert point.values["cache_bytes"] == 2 * 33 * elements * itemsize
    assert point.values["bytes_per_s"] * point.spread.median_s == pytest.approx(point.values["cache_bytes"])


def test_cache_shapes_of_well_known_models() -> None:
    # DeepSeek-V3: 512 latent and 64 rotary elements a token and layer. Qwen3-30B-A3B: 2 x 4 heads x 128.
    assert attention.DEEPSEEK_V3.entry_elements() == 576
    assert attention.QWEN3_30B.entry_elements() == 1024


def test_the_error_by_hand() -> None:
    # One head, two tokens, width 4: scores (2, 0) / sqrt(4) = (1, 0); weights e/(e+1) and 1/(e+1) over values 1 and 0.
    query = torch.tensor([2.0, 0, 0, 0]).view(1, 1, 1, 4)
    keys = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]).view(1, 1, 2, 4)
    values = torch.tensor([[1.0] * 4, [0.0] * 4]).view(1, 1, 2, 4)
    right = torch.full((1, 1, 1, 4), math.e / (math.e + 1))
    assert attention.relative_error(right, query, keys, values) == pytest.approx(0, abs=1e-6)
    assert attention.relative_error(right * 1.5, query, keys, values) == pytest.approx(0.5, rel=1e-5)


def test_grouped_heads_read_the_key_head_of_their_group(session: Session) -> None:
    # Two key heads of one token each: every query head of a group gets that head's value, whatever the scores.
    query = session.random((1, 4, 1, 16), "float32", "q")
    keys, values = session.random((1, 2, 1, 16), "float32", "k"), session.random((1, 2, 1, 16), "float32", "v")
    for attend in attention._ATTEND.values():
        torch.testing.assert_close(attend(query, keys, values)[:, :, 0], values[:, :, 0].repeat_interleave(2, 1))


def test_a_wrong_backend_is_reported_and_not_timed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attention._ATTEND, "torch.sdpa", lambda query, *_: torch.ones(query.shape))
    point = attention.measure(_task(GROUPED, "torch.sdpa"), session)
    assert point.spread is None
    assert (point.problem or "").startswith("wrong")


def test_a_cache_that_does_not_fit_is_a_problem(session: Session) -> None:
    assert "GiB" in (attention.measure(_task(GROUPED, "torch.sdpa", batch=2**20, context=2**20), session).problem or "")


@pytest.mark.parametrize("effort", EFFORTS)
def test_plans_name_each_case_once_and_leave_other_dtypes_out(session: Session, effort: Effort) -> None:
    for device in (session.device, session.device._replace(kind="cuda")):
        tasks = list(attention.plan(effort, (), (), device))
        assert len({(task.backend, *task.case.values()) for task in tasks}) == len(tasks)
        assert {task.dtype for task in tasks} == {"bfloat16"}
        assert not list(attention.plan(effort, (), ("int8",), device))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cache", [attention.MIXTRAL, attention.DEEPSEEK_V3])
def test_attention_on_a_gpu(cache: CacheShape) -> None:
    session = open_session(None, 0)
    for backend in attention.backends(cache):
        assert attention.measure(_task(cache, backend, "bfloat16", 2, 512), session).problem is None
