"""`docs/ledger.md` has every line of every engine, as the engines themselves explain it.

`UPDATE_GOLDEN=1 python -m pytest tests/test_docs_ledger.py` writes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import moeplan
from moeplan.engines import ENGINES
from moeplan.report.markdown import escaped, table
from tests.docs_blocks import ROOT

PAGE = ROOT / "docs" / "ledger.md"
BEGIN = "<!-- lines: asked of the engines, held by tests/test_docs_ledger.py -->"
END = "<!-- lines: end -->"
CODE = re.compile(r'(?:line|_constant)\(\s*"([a-z_.]+)"')
TITLES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "trtllm": "TensorRT-LLM",
    "llamacpp": "llama.cpp",
    "transformers": "transformers",
}


class Question(NamedTuple):
    """An estimate whose ledger has lines that no other one has."""

    model: str
    gpu: str
    flags: str = ""
    options: tuple[tuple[str, Any], ...] = ()


DRAFTS = """--speculative-config {"method":"deepseek_mtp","num_speculative_tokens":1}"""
Q4 = (("quant", "q4_k_m"),)
QUESTIONS = {
    "vllm": (
        Question("mixtral-8x7b", "h100-sxm"),
        Question(
            "deepseek-v3",
            "16xh200",
            f"--enable-expert-parallel {DRAFTS}",
            (("tp", 8), ("pp", 2)),
        ),
        Question("gpt-oss-120b", "b200"),
        Question("deepseek-v3", "8xh200", "--all2all-backend deepep_low_latency", (("tp", 1), ("dp", 8), ("ep", 8))),
        Question("qwen3-30b-a3b", "h100", "--enable-lora --max-lora-rank 16 --cpu-offload-gb 4 --kv-offloading-size 8"),
        Question("qwen3-30b-a3b", "h100", "", (("engine_version", "0.8.5"),)),
        Question("qwen3-vl-30b-a3b-instruct", "2xh100", "--language-model-only"),
    ),
    "sglang": (
        Question("qwen3-30b-a3b", "h100", "--enable-lora --max-lora-rank 16 --lora-target-modules all"),
        Question(
            "deepseek-v3",
            "8xh200",
            "--moe-a2a-backend deepep --enable-symm-mem",
            (("dp", 8), ("dp_attention", True), ("ep", 8)),
        ),
        Question("gpt-oss-120b", "2xh100", "--enable-hierarchical-cache --hicache-size 8 --cpu-offload-gb 4"),
        Question("qwen3-vl-30b-a3b-instruct", "2xh100"),
        Question("deepseek-v3", "8xb200", "--speculative-algorithm EAGLE"),
    ),
    "trtllm": (
        Question("deepseek-v3", "8xh200", "--ep_size 8 --kv_cache_config.host_cache_size 8589934592"),
        Question("gpt-oss-120b", "2xb200"),
        Question("qwen3-next-80b-a3b-instruct", "4xh100"),
    ),
    "llamacpp": (
        Question("gpt-oss-120b", "rtx-4090", "-c 65536 -np 2 --n-cpu-moe 24"),
        Question("qwen3-30b-a3b", "2xrtx-4090", "--no-kv-offload", Q4),
        Question("gemma-3-27b-it", "2xrtx-4090", "", Q4),
    ),
    "transformers": (
        Question("mixtral-8x7b", "h100-sxm"),
        Question("gpt-oss-20b", "rtx-4090"),
    ),
}


def lines(engine: str) -> Iterator[Any]:
    """Lines of all answers. Of an older release only what the newest one has not."""
    known: set[str] = set()
    for question in QUESTIONS[engine]:
        options = dict(question.options)
        answer = moeplan.estimate(
            question.model,
            gpu=question.gpu,
            engine=engine,
            offline=True,
            engine_args=question.flags.split(),
            **options,
        )
        found = [line for rank in answer.ranks for line in rank.lines]
        yield from (line for line in found if "engine_version" not in options or line.code not in known)
        known |= {line.code for line in found}


def rows(engine: str) -> list[tuple[str, ...]]:
    """A row for each formula of each line but weights, those of one code together."""
    found: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for line in lines(engine):
        if not line.code.startswith("weights."):
            what = f"{escaped(line.label)} `{line.code}`"
            why = escaped(line.why.formula), escaped(line.why.source)
            bases = found.setdefault(what, {}).setdefault(why, [])
            if line.basis not in bases:
                bases.append(line.basis)
    return [
        (what, *why, " or ".join(sorted(bases))) for what, reasons in found.items() for why, bases in reasons.items()
    ]


def test_the_page_is_what_the_engines_say() -> None:
    sections = [
        f"## {TITLES[engine]}\n\n" + table(["line", "formula", "source", "basis"], "<<<<", rows(engine))
        for engine in ENGINES
    ]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    wanted = f"{before}{BEGIN}\n\n" + "\n\n".join(sections) + f"\n\n{END}{after}"
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(wanted, encoding="utf-8")
        text = wanted
    assert text == wanted, "run it with UPDATE_GOLDEN=1"


def test_the_page_has_every_code_that_an_engine_writes() -> None:
    for engine in ENGINES:
        section = PAGE.read_text(encoding="utf-8").partition(f"\n## {TITLES[engine]}\n")[2].partition("\n## ")[0]
        shown = set(re.findall(r"^\| [^|]*`([a-z_.]+)` \|", section, re.MULTILINE))
        folder = ROOT / "moeplan" / "engines" / engine
        written = {code for path in folder.rglob("*.py") for code in CODE.findall(path.read_text(encoding="utf-8"))}
        assert written
        missing = sorted(written - shown)
        assert not missing, f"{engine}: add a question to QUESTIONS that shows them"
