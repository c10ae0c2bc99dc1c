"""`moeplan plan` as a user sees it: pages of every width, Markdown, JSON held to its schema, the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

import moeplan
from moeplan import cli
from moeplan.plan import result
from moeplan.plan.failures import FAILURES
from moeplan.report.as_json import as_json
from moeplan.report.plan_html import plan_html
from moeplan.report.plan_markdown import plan_markdown
from moeplan.report.plan_table import plan_table
from moeplan.report.plan_words import layout_words
from moeplan.sources.deployments.written import KINDS
from tests.golden.configs import MIXTRAL
from tests.report.read_pages import read
from tests.report.schemas import Schema, changed, without

SCHEMA = Schema("plan")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "workload.yaml"
HOSTILE = "evil|`x`<b>_[y](z)#"
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "an MoE": ("qwen3-30b-a3b", {"gpus": ["h100-sxm", "l40s"], "concurrency": 32, "context": "8k", "fallback": ["all"]}),
    "a dense model": ("llama-3.1-8b", {"gpus": ["rtx-4090"], "tpot": "20ms", "ttft": "2s"}),
    "limits that nothing keeps": ("olmoe", {"gpus": ["l40s"], "concurrency": 8, "tpot": "100us"}),
    "weights that fit nowhere": ("deepseek-v3", {"gpus": ["l40s"], "max_gpus": 2}),
    "speed not known": ("olmoe", {"gpus": ["h100-sxm"], "engines": ["llamacpp"], "max_gpus": 2}),
    "no price, by GPUs": ("olmoe", {"gpus": ["amd-mi300x"], "rank": "gpus", "max_gpus": 2}),
    "nothing to look at": ("olmoe", {"gpus": ["apple-m3-ultra"], "rank": "gpus", "max_gpus": 2}),
    "pools apart": ("qwen3-30b-a3b", {"gpus": ["h100-sxm"], "pools": "apart", "concurrency": 64, "context": "4k"}),
    "classes, a file, another model": (
        "qwen3-30b-a3b", {"gpus": ["h200-sxm"], "workload": EXAMPLE, "fallback": ["context-p99"], "dense": "qwen3-8b"},
    ),
    "a deployment file": (
        "olmoe", {"gpus": ["l40s"], "max_gpus": 1, "quants": ["stored"], "engines": ["vllm"], "emit": "compose"},
    ),
}  # fmt: skip


def answer(name: str) -> result.PlanResult:
    model, asked = QUESTIONS[name]
    return moeplan.plan(model, **{"offline": True, "max_gpus": 8, **asked})


@pytest.fixture(scope="module")
def answers() -> dict[str, result.PlanResult]:
    return {name: answer(name) for name in QUESTIONS}


# Looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
@pytest.mark.parametrize("name", QUESTIONS)
def test_no_line_is_wider_than_the_page_but_a_command(
    name: str, width: int, answers: dict[str, result.PlanResult]
) -> None:
    text = plan_table(answers[name], width=width, color=False, unicode=True)
    plans = [plan for plan in (answers[name].best,) if plan is not None]
    commands = {" ".join(pool.launch) for plan in plans for pool in plan.pools}
    lines = text.splitlines()
    assert max(len(line) for line in lines if line.strip() not in commands) <= width
    for command in commands:
        assert command in [line.strip() for line in lines]
    assert plan_table(answers[name], width=width, color=False, unicode=False).isascii()


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_has_a_page_with_all_plans(name: str, answers: dict[str, result.PlanResult]) -> None:
    found = answers[name]
    page = read(plan_html(found))
    assert page.told == json.loads(as_json(found))
    for plan in (found.best or found.nearest,):
        assert plan is None or all(" ".join(pool.launch) in page.words for pool in plan.pools)
    numbered = (*found.frontier, *found.smaller_formats)
    rows = [
        row for caption, table in page.tables.items() if caption.startswith(("Plans:", "In other")) for row in table
    ]
    assert [row[0].split()[0] for row in rows] == [str(number + 1) for number in range(len(numbered))]
    assert [row[0].split()[1] for row in rows] == [plan.profile.removeprefix("nvidia-") for plan in numbered]
    drawn = [marks for title, marks in page.charts.items() if title.startswith("Time per token over")]
    assert len(drawn) == bool(numbered)
    for marks in drawn:
        # As many marks as plans, each with its number, and no other is told of.
        assert {mark.partition(":")[0] for mark in marks} == {row[0].split()[0] for row in rows}
        assert len(marks) == len(numbered)
    cards = [card.removeprefix("nvidia-") for row in found.rejected for card in row.cards]
    assert sorted(cards) == sorted(
        card for row in page.tables.get("Cards without a plan here", []) for card in row[2].split(", ")
    )


def test_a_deployment_file_can_be_copied_from_the_page(answers: dict[str, result.PlanResult]) -> None:
    found = answers["a deployment file"]
    assert found.deployment is not None
    assert found.deployment.text.count("\n") > 10
    assert found.deployment.text.rstrip("\n") in read(plan_html(found)).words


@pytest.mark.parametrize("name", ["an MoE", "pools apart"])
def test_the_page_says_first_what_of_the_best_plan_is_a_guess(name: str, answers: dict[str, result.PlanResult]) -> None:
    found = answers[name]
    assert found.best is not None
    for certain, state in ((True, "good"), (False, "open")):
        page = plan_html(found._replace(best=found.best._replace(certain=certain)))
        assert f'class="headline {state}"' in page
        assert ("BEST, IF GUESSES HOLD" in page) is (not certain)
        assert ("Guessed: that it fits" in page) is (not certain)


def test_cards_that_cost_nothing_have_no_logarithm(answers: dict[str, result.PlanResult]) -> None:
    found = answers["an MoE"]
    free = [plan._replace(cost=plan.cost and plan.cost._replace(usd_per_hour=0.0)) for plan in found.frontier]
    page = read(plan_html(found._replace(frontier=tuple(free))))
    assert len(page.charts["Time per token over USD per hour"]) == len(found.frontier) + len(found.smaller_formats)
    assert "USD per hour (logarithmic)" not in plan_html(found._replace(frontier=tuple(free)))


def test_the_words_of_the_chart_round_as_its_table_does(answers: dict[str, result.PlanResult]) -> None:
    found = answers["an MoE"]
    page = read(plan_html(found))
    times = {row[0]: row[3] for row in page.tables["Time per token over USD per hour"]}
    number = re.search(r"the fastest is number (\d+) with ([\d.,]+ .?s) at", page.words)
    assert number is not None
    assert times[number[1]] == number[2]
    assert f"at {times['1']} per token; the fastest" in page.words


def test_more_cards_than_colours_share_the_last_one(answers: dict[str, result.PlanResult]) -> None:
    found = answers["an MoE"]
    many = [found.frontier[0]._replace(profile=f"card-{number}") for number in range(12)]
    page = plan_html(found._replace(frontier=tuple(many)))
    assert "other cards" in page
    assert "card-5" in page
    assert "other cards" not in plan_html(found)


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_narrowest_table_keeps_what_is_decided_by(name: str, answers: dict[str, result.PlanResult]) -> None:
    found = answers[name]
    text = plan_table(found, width=60, color=False, unicode=True)
    for plan in found.frontier[:10]:
        assert plan.cost is None or f"{plan.cost.usd_per_hour:,.2f}" in text
    assert text.count("Not among them") == bool(found.rejected)
    assert text.count("Best") == (found.best is not None)


def test_colour_adds_no_words(answers: dict[str, result.PlanResult]) -> None:
    found = answers["an MoE"]
    plain = plan_table(found, width=100, color=False, unicode=True)
    coloured = plan_table(found, width=100, color=True, unicode=True)
    assert "\x1b[" in coloured
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


def test_what_is_missing_is_said_with_its_plan(answers: dict[str, result.PlanResult]) -> None:
    late = answers["limits that nothing keeps"]
    assert late.best is None
    assert late.nearest is not None
    assert late.nearest.misses == ("tpot",)
    assert late.missing is not None
    assert "times the limit of 100 µs" in late.missing
    full = answers["weights that fit nowhere"]
    assert full.best is None
    assert full.nearest is not None
    assert not full.nearest.fits
    short = -min(pool.headroom_bytes for pool in full.nearest.pools)
    assert full.missing == f"{short / 2**30:.1f} GiB on the fullest GPU"
    assert [row.term for row in full.rejected] == ["weights"]


def test_a_card_that_lacks_a_figure_is_named_with_it(answers: dict[str, result.PlanResult]) -> None:
    found = answers["nothing to look at"]
    (row,) = found.rejected
    assert (row.term, row.cards) == ("profile", ("apple-m3-ultra",))
    assert "memory_bandwidth_bytes_per_s" in row.message
    assert found.searched.cards == 0


def test_plans_without_a_known_speed_are_shown_apart(answers: dict[str, result.PlanResult]) -> None:
    found = answers["speed not known"]
    assert not found.frontier
    assert found.unmeasured
    assert found.best == found.unmeasured[0]
    assert found.best.speed is None
    assert [row.term for row in found.rejected] == ["speed"]
    text = plan_table(found, width=100, color=False, unicode=True)
    assert "llamacpp" in text


def test_ranks_within_ranks_are_not_multiplied() -> None:
    """SGLang's data-parallel ranks of attention are among its tensor-parallel ones; vLLM's are groups of them."""
    sglang = result.PlannedLayout(tp=8, pp=2, dp=4, ep=8, dp_attention=True, num_gpus=16, num_nodes=2)
    vllm = result.PlannedLayout(tp=2, pp=1, dp=4, ep=8, dp_attention=True, num_gpus=8, num_nodes=1)
    assert layout_words(sglang) == "TP 8 x PP 2, DP 4 attention, EP 8"
    assert layout_words(vllm) == "TP 2 x DP 4, EP 8"
    assert layout_words(vllm._replace(tp=1, dp=1, ep=1, num_gpus=1)) == "1 GPU"


def test_a_best_plan_in_another_format_says_that_the_stored_one_does_not_do() -> None:
    asked: dict[str, Any] = {"gpus": ["rtx-4090"], "max_gpus": 1, "context": "4k", "offline": True}
    found = moeplan.plan("qwen3-30b-a3b", **asked)
    assert not found.frontier
    assert found.best is not None
    assert found.best.format_origin == "other checkpoint"
    for text in (plan_table(found, width=100, color=False, unicode=True), plan_markdown(found)):
        assert "in the checkpoint's own format, bfloat16" in text
        assert f"a checkpoint in {found.best.format} in place of the name" in text
    asked_for = moeplan.plan("qwen3-30b-a3b", **asked, quants=[found.best.format])
    assert "own format" not in plan_table(asked_for, width=100, color=False, unicode=True)


# Names from outside ----------------------------------------------------------------------------------------


def test_a_hostile_name_stays_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    found = moeplan.plan(folder, gpus=["h100-sxm"], max_gpus=4, quants=["stored"], context="4k", offline=True)
    assert found.best is not None
    page = plan_markdown(found)
    # A command is code, in which nothing is markup; everywhere else the name is escaped.
    prose = re.sub(r"(`+) .*? \1", "", page)
    assert "<b>" in page
    assert "<b>" not in prose
    assert "[y](z)" not in prose
    assert len({line.count("|") - line.count("\\|") for line in page.splitlines() if line.startswith("|")}) == 1
    bad = found._replace(model=found.model._replace(id="evil\x1b[31m|\n<b>", stored_format="a|b"))
    assert "\x1b" not in plan_table(bad, width=80, color=False, unicode=True)
    assert "\n<b>" not in plan_markdown(bad)
    assert plan_markdown(bad).startswith("## evil")


# JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUESTIONS)
def test_json_fits_its_schema(name: str, answers: dict[str, result.PlanResult]) -> None:
    assert SCHEMA.complaints(as_json(answers[name])) == []


RECORDS: dict[tuple[str, ...], type[NamedTuple]] = {
    (): result.PlanResult,
    ("request",): result.PlanRequest,
    ("model",): result.PlannedModel,
    ("searched",): result.Searched,
    ("best",): result.Plan,
    ("frontier", "*"): result.Plan,
    ("nearest", "pools", "*"): result.Pool,
    ("best", "pools", "*", "layout"): result.PlannedLayout,
    ("best", "speed"): result.PlannedSpeed,
    ("best", "cost"): result.PlannedCost,
    ("rejected", "*"): result.Rejected,
    ("fallback", "*"): result.Fallback,
    ("deployment",): result.Deployment,
}


@pytest.mark.parametrize("path", RECORDS)
def test_the_schema_describes_every_record(path: tuple[str, ...]) -> None:
    SCHEMA.must_describe(path, RECORDS[path])


def test_the_schema_knows_every_word() -> None:
    assert tuple(SCHEMA.at("rejected", "*")["properties"]["term"]["enum"]) == get_args(result.Term)
    assert tuple(SCHEMA.at("fallback", "*")["properties"]["failure"]["enum"]) == (*FAILURES, "dense")
    assert tuple(SCHEMA.at("deployment")["properties"]["kind"]["enum"]) == KINDS
    request = SCHEMA.at("request")["properties"]
    assert tuple(request["rank"]["enum"]) == get_args(result.RankBy)
    assert tuple(request["pools"]["enum"]) == get_args(result.Pools)
    assert SCHEMA.document["properties"]["schema"]["const"] == result.SCHEMA


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("winner",), "h100"),
        (("best", "num_gpus"), 1.5),
        (("best", "pooling"), "split"),
        (("best", "pools"), []),
        (("best", "pools", 0, "headroom_bytes"), None),
        (("best", "speed", "ttft", "value_s"), 0),
        (("best", "cost", "usd_per_hour"), "7"),
        (("best", "misses"), ["slow"]),
        (("rejected", 0), {"term": "bored", "cards": ["h100"], "message": "no"}),
        (("fallback", 0, "failure"), "fire"),
        (("workload", "input_tokens"), 0),
        (("request", "max_gpus"), 0),
        (("schema",), "moeplan.plan/2"),
    ],
)
def test_the_schema_refuses_what_is_wrong(
    path: tuple[str | int, ...], value: Any, answers: dict[str, result.PlanResult]
) -> None:
    found = answers["an MoE"]
    text = as_json(found._replace(rejected=(result.Rejected("beaten", ("x",), "so"),)))
    assert SCHEMA.complaints(text) == []
    assert SCHEMA.complaints(changed(text, path, value))
    assert SCHEMA.complaints(without(text, "notes"))


# Guesses ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def over_nodes() -> result.PlanResult:
    """Cards of 24 GB for a model of 470 GB: four nodes of them, where four B200 of one node do as well."""
    found = moeplan.plan(
        "qwen3-235b", gpus=["rtx-3090", "b200-sxm"], engines=["trtllm", "sglang"], quants=["stored"], concurrency=20, offline=True
    )  # fmt: skip
    assert found.best is not None
    assert found.best.profile == "nvidia-rtx-3090"
    assert found.best.pools[0].layout.num_nodes == 4
    assert not found.best.certain
    return found


def test_the_first_words_say_what_of_the_best_is_a_guess_and_what_does_without(over_nodes: result.PlanResult) -> None:
    surer = next(plan for plan in over_nodes.frontier if plan.profile == "nvidia-b200-sxm")
    for told in (plan_table(over_nodes, width=100, color=False, unicode=True), plan_markdown(over_nodes)):
        words = " ".join(told.split())
        assert "Best, if guesses hold: 32 x NVIDIA GeForce RTX 3090" in words
        first = words[words.index("guessed:") : words.index("speed: first token")]
        assert "that it fits" in first
        assert "4 nodes" in first
        assert f"{surer.num_gpus} x {surer.gpu}" in first


def test_plans_over_nodes_have_a_note_that_names_the_network(over_nodes: result.PlanResult) -> None:
    notes = [note.message for note in over_nodes.notes if note.code == "network-assumed"]
    assert [("rtx-3090" in note, "8 GPUs share it" in note, "assumed" in note) for note in notes][:1] == [(True,) * 3]
    assert over_nodes.best is not None
    assert over_nodes.best.speed is not None
    assert any("network between nodes" in each for each in over_nodes.best.speed.extrapolated)


def test_plans_of_one_node_say_nothing_of_networks(answers: dict[str, result.PlanResult]) -> None:
    for found in answers.values():
        assert not [note for note in found.notes if note.code == "network-assumed"]
        assert "network" not in plan_table(found, width=100, color=False, unicode=True).replace(
            "without the network", ""
        )


def test_a_card_of_which_no_run_was_published_is_not_measured() -> None:
    found = moeplan.plan(
        "qwen3-30b-a3b", gpus=["l40s"], engines=["trtllm"], quants=["stored"], max_gpus=2, offline=True
    )
    assert found.best is not None
    assert found.best.speed is not None
    assert "card nvidia-l40s" in found.best.speed.extrapolated
    speed = found.best.speed
    assert {speed.ttft.basis, speed.tpot.basis, speed.output_tokens_per_s.basis} == {"carried"}


def test_a_narrow_table_of_other_formats_names_them(answers: dict[str, result.PlanResult]) -> None:
    found = answers["an MoE"]
    assert found.smaller_formats
    page = plan_table(found, width=40, color=False, unicode=True)
    table = page[page.index("In other formats") :].split("\n\n")[0]
    for plan in found.smaller_formats[:10]:
        assert f" {plan.format} " in table


# The command line ------------------------------------------------------------------------------------------

Said = tuple[int, str, str]
Go = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Go:
    """Run `moeplan plan --offline` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def go(*words: str, **environment: str) -> Said:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = cli._run(["plan", *words, "--offline"])
        return code, *capsys.readouterr()

    return go


SMALL = ("olmoe", "--gpus", "l40s,h100-sxm", "--max-gpus", "2", "--concurrency", "16", "--context", "4k")


def test_the_command_writes_the_same_json_as_python(run: Go, tmp_path: Path) -> None:
    assert run(*SMALL, "--json", "-o", "answer.json") == (0, "", "")
    whole = moeplan.plan("olmoe", gpus=["l40s", "h100-sxm"], max_gpus=2, concurrency=16, context="4k", offline=True)
    assert (tmp_path / "answer.json").read_text(encoding="utf-8") == as_json(whole)


def test_a_pipe_a_narrow_page_and_markdown(run: Go) -> None:
    code, out, err = run(*SMALL)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert out == plan_table(
        moeplan.plan("olmoe", gpus=["l40s", "h100-sxm"], max_gpus=2, concurrency=16, context="4k", offline=True),
        width=100, color=False, unicode=True,
    )  # fmt: skip
    code, narrow, err = run(*SMALL, COLUMNS="60")
    assert (code, err) == (0, "")
    assert narrow != out
    code, page, err = run(*SMALL, "--format", "markdown")
    assert (code, err) == (0, "")
    assert page.startswith("## allenai/OLMoE-1B-7B-0924\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("olmoe", "--gpus", "l40s", "--max-gpus", "1"), 0, "Best:"),
        (("deepseek-v3", "--gpus", "l40s", "--max-gpus", "2"), 1, "on the fullest GPU"),
        (("olmoe", "--gpus", "l40s", "--max-gpus", "1", "--tpot", "100us"), 1, "times the limit"),
        (("olmoe", "--gpus", "l40s", "--max-gpus", "1", "--engine", "llamacpp", "--tpot", "50ms"), 3, "No plan is known to keep"),
    ],
)  # fmt: skip
def test_exit_codes(words: tuple[str, ...], code: int, said: str, run: Go) -> None:
    found, out, err = run(*words)
    assert (found, err) == (code, "")
    assert said in " ".join(out.split())
    assert run(*words, "--quiet") == (code, "", "")
