"""Further pages for the browser: plans, comparisons, reports of routing as the command line writes them, and a profile by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.golden.configs import BY_NAME

if TYPE_CHECKING:
    from tests.pages.pages_written import Written

ROUTING = Path(__file__).resolve().parents[2] / "examples" / "routing"


def plan_with_fallbacks(folder: Path) -> list[str]:
    """Several cards, formats and failures, a limit among the plans, a deployment file."""
    words = ["plan", "qwen3-30b-a3b", "--gpus", "h100-sxm,l40s", "--max-gpus", "4", "--offline"]
    return [*words, "--concurrency", "32", "--context", "8k", "--tpot", "20ms", "--fallback", "all", "--emit", "k8s"]


def plan_that_finds_none(folder: Path) -> list[str]:
    """A limit that nothing keeps: no chart."""
    return ["plan", "olmoe", "--gpus", "l40s", "--concurrency", "8", "--tpot", "100us", "--max-gpus", "1", "--offline"]


def plan_of_a_name_with_tags(folder: Path) -> list[str]:
    """The name stands in the command that starts it, too; one with blanks or control characters is refused there."""
    model = _model(folder, "<script>alert(1)<plaintext><b>'&amp;")
    return ["plan", model, "--gpus", "h100-sxm", "--rank", "gpus", "--max-gpus", "2", "--offline"]


def offload_with_a_routing_profile(folder: Path) -> list[str]:
    """Experts in host memory, and which of them are chosen most."""
    from tests.pages.routing_counts import counts_file

    card = ["--gpu", "rtx-4090", "--ram", "512GiB", "--offline"]
    return ["plan", "deepseek-v3", *card, "--routing", str(counts_file(folder))]


def offload_of_a_hostile_name(folder: Path) -> list[str]:
    """A local model whose folder's name is an attack, in several formats, by requests enough that experts are copied."""
    from tests.pages.pages_written import HOSTILE

    load = ["--concurrency", "32", "--context", "2k", "--input", "600", "--output", "200"]
    return ["plan", _model(folder, HOSTILE), "--gpu", "nvidia-t4", "--ram", "256GiB", *load, "--offline"]


def offload_that_does_not_go(folder: Path) -> list[str]:
    """Neither card nor host has room: no chart."""
    return ["plan", "deepseek-v3", "--gpu", "rtx-4090", "--ram", "64GiB", "--offline"]


def comparison_on_a_card(folder: Path) -> list[str]:
    """Two models whose order turns, with speed and prices."""
    return [
        "compare",
        "qwen3-30b-a3b",
        "qwen3-8b",
        "--gpu",
        "h100-sxm",
        "--concurrency",
        "64",
        "--context",
        "8k",
        "--offline",
    ]


def comparison_of_hostile_names(folder: Path) -> list[str]:
    """Names as labels of charts and heads of tables; no card."""
    from tests.pages.pages_written import HOSTILE

    return ["compare", _model(folder, HOSTILE), "mixtral-8x7b", "--concurrency", "8", "--offline"]


def routing_report(folder: Path) -> list[str]:
    """A capture, which has all curves."""
    return ["routing", "report", str(ROUTING / "synthetic.jsonl")]


def routing_report_of_600b(folder: Path) -> list[str]:
    """58 layers of 256 experts by counts alone."""
    from tests.pages.routing_counts import counts_file

    return ["routing", "report", str(counts_file(folder))]


def routing_drift(folder: Path) -> list[str]:
    """Beyond a bound, with noise."""
    return [
        "routing",
        "drift",
        str(ROUTING / "synthetic.yaml"),
        str(ROUTING / "synthetic-later.yaml"),
        "--bound",
        "0.1",
    ]


def routing_drift_of_hostile_names(folder: Path) -> list[str]:
    """The same prompts in files whose names are attacks."""
    from tests.pages.pages_written import HOSTILE

    files = [folder / f"{number}{HOSTILE.replace('/', '')}.jsonl" for number in range(2)]
    for file, name in zip(files, ("synthetic.jsonl", "synthetic-fp8.jsonl"), strict=True):
        shutil.copy(ROUTING / name, file)
    return ["routing", "drift", *map(str, files)]


def profile_by_hand(folder: Path) -> Written:
    """A profile of a GPU: nothing is measured."""
    from moeplan.report.as_json import as_json
    from moeplan.report.profile_html import profile_html
    from tests.pages.pages_written import Written
    from tests.report.test_profile_report import FOUND

    page = folder / "page.html"
    page.write_text(profile_html(FOUND), encoding="ascii")
    return Written(page, json.loads(as_json(FOUND)))


def routing_placement(folder: Path) -> list[str]:
    """Copies compared, judged by other counts."""
    file, live = (str(ROUTING / name) for name in ("synthetic.yaml", "synthetic-later.yaml"))
    return ["routing", "place", file, "--ranks", "8", "--nodes", "2", "--redundant", "0,8,16", "--live", live]


def routing_placement_by_a_law(folder: Path) -> list[str]:
    """No counts, so no layers; times of a large model on 32 ranks."""
    asked = [
        "--skew",
        "0.65",
        "--ranks",
        "32",
        "--redundant",
        "0,32",
        "--gpu",
        "h200",
        "--concurrency",
        "2048",
        "--offline",
    ]
    return ["routing", "place", "--model", "deepseek-v3", *asked]


OTHERS = (
    plan_with_fallbacks,
    plan_that_finds_none,
    plan_of_a_name_with_tags,
    offload_with_a_routing_profile,
    offload_of_a_hostile_name,
    offload_that_does_not_go,
    comparison_on_a_card,
    comparison_of_hostile_names,
    routing_report,
    routing_report_of_600b,
    routing_drift,
    routing_drift_of_hostile_names,
    routing_placement,
    routing_placement_by_a_law,
    profile_by_hand,
)


def _model(folder: Path, name: str) -> str:
    """A local model whose folder has that name."""
    from tests.pages.pages_written import HOSTILE_TEXT

    model = folder / name
    model.mkdir(exist_ok=True)
    config = BY_NAME["gpt-oss"] | {"_name_or_path": HOSTILE_TEXT}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(model)
