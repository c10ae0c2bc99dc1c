"""Lines as vllm-project/vllm, vllm/distributed/eplb/eplb_state.py (0014ec6c, 50feac95) and sgl-project/sglang,
python/sglang/srt/eplb/expert_distribution.py (02295fe5) format them."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.sources.routing_dumps.balance_lines import BalanceSample, read_balance


def vllm_line(step: int, average: float, most: int, balancedness: float) -> str:
    return (
        f"(EngineCore_DP0 pid=7) INFO 08-11 10:00:00 [eplb_state.py:569] EPLB step: {step} for model deepseek-ai/DeepSeek-V3: "
        f"avg_tokens={average:.2f}, max_tokens={most}, balancedness={balancedness:.4f}, "
        f"steps until the next rearrangement: {3000 - step}"
    )


def sglang_line(forward_pass_id: int, rate: float, total: int) -> str:
    history = "".join(f"last_{size}_average_balancedness={rate:.03f} " for size in (10, 100, 1000))
    return (
        f"[2025-08-05 10:00:00 DP0 TP0 EP0] [Expert Balancedness] forward_pass_id={forward_pass_id} "
        f"current_pass_balancedness={rate:.03f} {history}gpu_physical_count_sum={total}"
    )


def test_lines_of_vllm(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        "\n".join(
            [
                "INFO starting",
                vllm_line(100, 512.25, 1024, 0.5002),
                "INFO 07-01 [eplb_state.py:300] EPLB step: avg_tokens=10.00, max_tokens=40, balancedness=0.2500",
                vllm_line(101, 0.0, 0, 0.0),
            ]
        )
    )
    found = read_balance(log)
    assert found is not None
    assert found.engine == "vllm"
    assert found.samples == (
        BalanceSample(2, 100, "deepseek-ai/DeepSeek-V3", 0.5002, None),
        BalanceSample(3, None, None, 0.25, None),
    )
    assert found.median == pytest.approx(0.3751)
    assert any("over layers, not over ranks" in note for note in found.notes)


def test_lines_of_sglang(tmp_path: Path) -> None:
    log = tmp_path / "sglang.log"
    log.write_text(
        "\n".join(
            [sglang_line(7, 0.612, 4096), sglang_line(8, 1.0, 0), sglang_line(9, 0.7, 64), sglang_line(9, 0.9, 8)]
        )
    )
    found = read_balance(log)
    assert found is not None
    assert [(sample.step, sample.balancedness, sample.choices) for sample in found.samples] == [
        (7, 0.612, 4096),
        (9, 0.7, 64),
        (9, 0.9, 8),
    ]
    assert found.median == 0.7
    assert not found.notes


def test_other_logs_have_none(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("EPLB step: soon\nnothing here\n")
    assert read_balance(tmp_path / "a.log") is None
    (tmp_path / "b.log").write_text(vllm_line(1, 1, 2, 0.5) + "\n" + sglang_line(7, 0.612, 4096))
    with pytest.raises(InputError, match="lines of vLLM and of SGLang"):
        read_balance(tmp_path / "b.log")
