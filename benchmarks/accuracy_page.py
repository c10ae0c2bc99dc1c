"""`docs/accuracy.md`, made of what the benchmarks find; the same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import (
    accuracy_offload,
    accuracy_speculation,
    latency,
    ops,
    routing_observed,
    routing_priors,
    throughput,
)
from benchmarks.latency_rows import PROFILES
from benchmarks.memory import Outcome, not_judged, outcomes, passes, summary, terms
from moeplan.core.coverage import SEQUENCE_GROWTH_LOW
from moeplan.core.deployment import version_key
from moeplan.core.op_set import OPERATIONS
from moeplan.sources.engine_constants import engine_constants
from moeplan.sources.op_constants import BORROWING, tried_widths
from moeplan.sources.profile_folders import builtin_folder

HEAD = """# Accuracy

How far moeplan's figures are from what engines printed and from models that were built. Written by
`python benchmarks/accuracy.py page`; a test and CI hold this page against what the code says now. Observations stand with
their sources in `benchmarks/data/observed-memory.yaml`.
"""

SORTS = {
    "weights": "What the engine calls model loading, per GPU",
    "cache": "Tokens of a given pool, or bytes of given tokens",
    "end": "What is left for the cache, end to end",
}

MEANING = """`weights` is the engine's own line after loading, per GPU. `cache` takes the pool that the log names and asks
for tokens, or the other way round: it checks the rules of blocks and records apart from all fixed costs. `end` is the
pool from nothing but model, card and flags: all errors of weights, activations, graphs and context at once. No constant
was tuned to a model: what was fitted is named, here and in `profiles/engines/`."""

LATENCY = """The latency model of `moeplan/core/latency.py` against public measurements of expert kernels (sources in
`benchmarks/data/moe-latency.md`) on A100, H100, B200 and L40S, each row predicted by constants and bands that were fitted
without its model shape; kernels of three shapes and more, up to 8 expert ranks. `in band` is the share of rows within the
90 % band, `high/low` the median width of it. By kernel, and what is shown without counting: `python benchmarks/accuracy.py
latency`."""

OPS = """The formulas of `moeplan/core/{matmul,attention,collective}_latency.py` against public measurements (sources in
`benchmarks/data/ops-latency.md`) on A100, H100, B200 and L40S under vLLM, SGLang, TensorRT-LLM, NCCL and DeepEP. Each row is
predicted by constants and bands that were fitted without its shape: without its n x k for products, its heads for attention,
its number of GPUs for collectives, its model and GPUs for DeepEP. By kernel: `python benchmarks/accuracy.py ops`."""

OPS_BOUNDS = """Bounds of each operation: mean at most {:.0%}, median at most {:.0%}, {:.0%} to {:.0%} of the rows in band,
high/low at most {:g}. Where one is missed:"""

OPS_CARRIED = """Constants of elsewhere, on the same rows: what a device borrows that was not measured. The 90 % bands, by the ranges of
sizes above, take the place of its own."""

OPS_DOUBTS = """- Operations were replayed back to back, so weights and cache that fit the last-level cache came from there; the
  formulas take that out for a model of many layers, and nothing here tests it.
- Attention was measured with 128 values a head and no tokens before a prefill. Chunks after the first are extrapolated, and
  latent attention, with a band twice as wide to either side.
- vLLM's block fp8 on H100 and B200 looks as if it was timed at the pace of the host: 57 to 280 us for a product of one row,
  whatever its size. Its sets are kept and judged, and lent to nobody; the same kernels under another engine stand in.
- The form of the formulas, the starts of the fits and the width of bands from few folds were chosen by looking at these same
  tables: the constants have not seen a row's shape, the choices have.
- Engines' own all-reduce counts inside of CUDA graphs alone. Collectives across nodes are not measured and are refused, but
  for DeepEP."""

THROUGHPUT = """Time per output token, time to the first token and rate of a GPU (`moeplan/core/serving_speed.py`) against 16
published serving runs (InferenceX by SemiAnalysis, as ai-dynamo/aiconfigurator lists them;
`benchmarks/data/throughput.csv`). Steps are made of the kernels above; three constants are fitted to these same runs,
below. Milliseconds; `band` is meant to hold nine of ten. `python benchmarks/accuracy.py throughput` prints this and
the parts of each step."""

THROUGHPUT_RUNS = """Of DeepSeek-R1 the source does not say whether draft layers ran; its rows are marked and their TTFT counted apart. The
other models have none in their checkpoints. Whether TTFT and TPOT are means or medians the source does not say
either; all are taken as means."""

THROUGHPUT_FITS = """Fitted to these runs, and how far off constants are that were fitted without a model's own runs, one model after the
other:"""

THROUGHPUT_DOUBTS = """- The bounds above are judged with constants that have seen the runs. Without a model's own runs the bands hold
  fewer, as told.
- Four models, three cards, one to eight ranks of one node, no data-parallel attention, no pipeline, no dense model:
  whatever lies beyond is told as `extrapolated` and rests on the kernels' tables alone.
- gpt-oss on a B200 is predicted 29 to 40 % too slow. Its experts' constants come from one shape, run as 16-bit
  activations on MXFP4 weights; which kernel these runs took is not stated. Nothing was changed for it.
- TTFT of SGLang is predicted 32 to 45 % too low: an engine's own way to the first token is not told apart, for want
  of runs.
- No run states the tokens of a step; 8,192 are assumed. Ten requests of each user, and all users at once at the
  start, are how the runs' client works; a service whose users come at any time waits less for its first tokens."""

ROUTING = """How moeplan takes routers to use experts where no profile is given (`moeplan/core/coverage.py`), against what was
published of models and settings by name; sources in `benchmarks/data/routing.csv`. The prediction is the light skew and the growth
of every model; the band goes from even gates to twice the light skew, and over all growths that were observed. It is not a model's
prior ([method](method.md#priors-of-routing)), which comes from these same figures. One row has to lie inside: 131 experts in a window
of 128 tokens. What each row compares: `benchmarks/routing_observed.py`; `python benchmarks/accuracy.py routing` prints this too."""

ROUTING_DOUBTS = """- The window of 128 tokens sets the low end of the band of growths, {low}: the band holds all that was observed,
  so that row is no test of it. Of the other four models alone it would begin at {others:.2f}, and 131 would lie outside. The default
  itself, {default:.0f} experts, is far off.
- A light skew is too light for DeepSeek-R1 without a balancer, gpt-oss-120b, OLMoE on mixed prompts and the least balanced layer of
  LLaDA-MoE. It stays the default, for errors on the serving runs above are alike without any; a note tells what was published of a
  model, and `--skew` and `--routing` take what is known better.
- No one Zipf law gives both the Gini coefficient and the spread of gpt-oss-120b.
- The balancer's example and the forced skew are arithmetic, not routers. That steps lie on a line over distinct experts is so by the
  model's own form; its slope, {slope_ms:.2f} ms an expert on a B200, is not held against the published 0.06 ms: its card is not stated."""

NOT_MEASURED = """## Not yet measured

- **TensorRT-LLM**: not yet measured. Its rules are read in its sources; its fixed costs are borrowed from other engines, with wide bands.
- **Our own runs on a GPU**: none. Everything above comes from public logs and reports.
- **Fixed costs on other cards than the H100**, of several nodes, of DeepEP's low-latency mode: constants with bands.
- **CUDA under llama.cpp**: its buffers are held against logs above; the device context is a constant with a band.
- **Speed** of dense models, pipelines, data-parallel attention and several nodes: no published run with all settings was found.
- **Kernels on our own machines**: `moeplan profile` has run on CPUs alone.
"""


def page(params_agree: tuple[int, int], kv_agree: tuple[int, int]) -> str:
    """The whole page. Pairs are (rows that agree, rows)."""
    found = outcomes()
    blocks = [HEAD.strip(), "## Memory", MEANING, _summary(found)]
    for judge, title in SORTS.items():
        blocks += [f"### {title}", _rows([each for each in found if each.row["judge"] == judge and each.counted])]
    blocks += ["### Term by term, where a log tells terms apart", _terms(found)]
    blocks += ["### Refused by the engine", _rows([each for each in found if each.row["judge"] == "refused"])]
    shown = [each for each in found if not each.counted]
    blocks += [
        "### Shown, and counted for nothing",
        _rows(shown),
        "\n".join(f"- {each.row['id']} ({each.row['judge']}): {each.row['because']}." for each in shown),
    ]
    blocks += ["### Assumptions", _assumptions(found)]
    blocks += ["### Observations that cannot be judged", _reasons(not_judged())]
    blocks += ["### Constants that were fitted", _fitted(found)]
    blocks += [
        "## Parameters and cache",
        _table(
            ["figure", "held against", "agree", "of"],
            [
                (
                    "parameters: total, active, every role",
                    "models built by transformers 5.23.0",
                    *map(str, params_agree),
                ),
                ("cache: elements per token and per sequence", "that library's own caches", *map(str, kv_agree)),
            ],
        ),
        "Configs against checkpoint headers: `python benchmarks/accuracy.py weights`. All three run in the tests as well.",
        "## Times of expert kernels",
        LATENCY,
        _latency(),
        "## Times of plain operations",
        OPS,
        _ops(),
        _ops_by_system(),
        OPS_BOUNDS.format(ops.MOST_MEAN, ops.MOST_MEDIAN, ops.LEAST_COVERED, ops.MOST_COVERED, ops.WIDEST),
        "\n".join(f"- {name.replace('_', ' ')}: {why}." for name, why in ops.MISSED.items()),
        OPS_CARRIED,
        _ops_carried(),
        OPS_DOUBTS,
        "## Speed of serving",
        THROUGHPUT,
        _bounds(),
        _runs("tpot"),
        _runs("ttft"),
        THROUGHPUT_RUNS,
        "Output tokens per second and GPU of equal questions on two cards:",
        _pairs(),
        THROUGHPUT_FITS,
        "\n".join(f"- {line}." for line in throughput.fits()),
        THROUGHPUT_DOUBTS,
        "## Drafts",
        accuracy_speculation.TEXT,
        _table(accuracy_speculation.heads(), accuracy_speculation.rows()),
        accuracy_speculation.doubts(),
        "## Experts in host memory",
        accuracy_offload.text(),
        _table(accuracy_offload.heads(), accuracy_offload.rows()),
        accuracy_offload.summary(),
        accuracy_offload.DOUBTS,
        "## Routing",
        ROUTING,
        _table(routing_observed.HEADS, map(routing_observed.cells, routing_observed.outcomes())),
        routing_observed.summary(routing_observed.outcomes()) + ":",
        _left_out(),
        _routing_doubts(),
        NOT_MEASURED.strip(),
    ]
    return "\n\n".join(blocks) + "\n"


def _summary(found: list[Outcome]) -> str:
    rows = []
    for judge, count, middle, worst, bound, kept in summary(found):
        shown = [f"{value:.2f} GiB" if judge == "end" else f"{value:.2%}" for value in (middle, worst)]
        rows.append((judge, str(count), *shown, bound, "kept" if kept else "BROKEN"))
    verdict = (
        "No row that ran is called impossible." if not any(each.contradicts for each in found) else "CONTRADICTED."
    )
    outcome = "All bounds are kept." if passes(found) else "Not all bounds are kept."
    return _table(["rows", "counted", "median error", "worst", "bound", ""], rows) + f"\n\n{outcome} {verdict}"


def _rows(found: Iterable[Outcome]) -> str:
    rows = []
    for each in found:
        row = each.row
        engine = f"{row['engine']} {row.get('version') or engine_constants(row['engine']).version}"
        fitted = "yes" if row.get("fitted") else ""
        asked = row["model"] + (f", {row['quant']}" if row.get("quant") else "")
        place = f", {row['rank']} stage" if row.get("rank") else ""
        rows.append((row["id"], asked, engine, row["gpu"] + place, each.observed, each.predicted, _error(each), fitted))
    return _table(["row", "model", "engine", "on", "observed", "moeplan", "error", "fitted on"], rows)


def _terms(found: Iterable[Outcome]) -> str:
    """Where errors of the end-to-end rows come from: some cancel."""
    rows = []
    for each in found:
        place = f", {each.row['rank']} stage" if each.row.get("rank") else ""
        for label, theirs, mine in terms(each):
            rows.append(
                (each.row["id"] + place, label, f"{theirs:.2f} GiB", f"{mine:.2f} GiB", f"{mine - theirs:+.2f} GiB")
            )
    return _table(["row", "term", "observed", "moeplan", "error"], rows)


def _error(each: Outcome) -> str:
    if each.unit == "refusal":
        return "refused, too" if each.error == 0 else "NOT REFUSED"
    return f"{each.error:+.2%}" if each.unit == "share" else f"{each.error:+.2f} GiB"


def _assumptions(found: Iterable[Outcome]) -> str:
    lines = []
    for each in found:
        told = [each.row.get("assumed")]
        told += [f"fitted: {each.row['fitted']}"] if each.row.get("fitted") else []
        text = "; ".join(part for part in told if part)
        if text:
            place = f", {each.row['rank']} stage" if each.row.get("rank") else ""
            lines.append(f"- {each.row['id']} ({each.row['judge']}{place}): {text}.")
    return "\n".join(lines)


def _reasons(reasons: dict[str, str]) -> str:
    return _table(["row", "why"], sorted(reasons.items()))


def _fitted(found: Iterable[Outcome]) -> str:
    """Of the newest versions, and of those that rows were observed under: each fit once, with the versions that use it."""
    asked: dict[str, list[str | None]] = {engine: [] for engine in ("vllm", "sglang", "trtllm", "llamacpp")}
    for each in found:
        asked[each.row["engine"]].append(each.row.get("version"))
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for engine, versions in asked.items():
        for version in [*sorted({each for each in versions if each}, key=version_key), None]:
            constants = engine_constants(engine, version)
            for name, constant in constants.by_name.items():
                if constant.rows:
                    key = (engine, f"`{name}`", ", ".join(constant.rows), constant.error or "")
                    rows.setdefault(key, []).append(constants.version)
    return _table(
        ["engine", "constant", "rows", "error", "versions above that use it"],
        [(*key, ", ".join(dict.fromkeys(versions))) for key, versions in sorted(rows.items())],
    )


def _latency() -> str:
    some = latency.counted()
    rows = [*latency.by_range(some).items(), ("all", latency.score(some))]
    return _table(
        ["tokens", "rows", "mean error", "median error", "in band", "high/low"],
        [
            (
                name,
                f"{each.rows:,}",
                f"{each.mean:.1%}",
                f"{each.median:.1%}",
                f"{each.covered:.1%}",
                f"{each.ratio:.2f}",
            )
            for name, each in rows
        ],
    )


def _ops() -> str:
    rows = []
    for operation in OPERATIONS:
        some = ops.of(operation)
        label = operation.replace("_", " ")
        for size, each in (*ops.by_size(some).items(), ("all", ops.score(some))):
            kept = "" if size != "all" else "kept" if ops.passes(each) else "missed"
            cells = (
                f"{each.rows:,}",
                f"{each.mean:.1%}",
                f"{each.median:.1%}",
                f"{each.covered:.1%}",
                f"{each.ratio:.2f}",
            )
            rows.append((label, size, *cells, kept))
    return _table(["operation", "size", "rows", "mean error", "median error", "in band", "high/low", "bounds"], rows)


def _ops_by_system() -> str:
    rows = []
    for operation in OPERATIONS:
        found = ops.by_system(ops.of(operation))
        cells = [f"{found[name].mean:.1%} / {found[name].median:.1%}" if name in found else "-" for name in PROFILES]
        rows.append((operation.replace("_", " "), *cells))
    heads = [f"{name.split('_')[0].upper()}: mean / median" for name in PROFILES]
    return _table(["operation", *heads], rows)


def _ops_carried() -> str:
    return _table(
        ["operation", "constants of", "rows", "error", "low to high"],
        [
            (
                str(each.operation).replace("_", " "),
                each.kind.replace("_", " "),
                f"{each.rows:,}",
                each.error,
                "; ".join(f"{band.low:.2f} to {band.high:.2f}" for band in each.bands),
            )
            for each in tried_widths(builtin_folder("kernels") / "ops" / BORROWING)
        ],
    )


def _bounds() -> str:
    rows = [(each.name, each.found, each.asked, _kept(each.kept)) for each in throughput.bounds(throughput.outcomes())]
    return _table(["bound", "found", "asked", ""], rows)


def _kept(is_kept: bool) -> str:
    return "kept" if is_kept else "BROKEN"


def _runs(what: throughput.What) -> str:
    rows = []
    for each in throughput.outcomes():
        run = each.run
        measured, figure = (run.tpot_s, each.speed.tpot_s) if what == "tpot" else (run.ttft_s, each.speed.ttft_s)
        may = "may speculate" if each.may_speculate else ""
        rows.append((*throughput.cells(run), *throughput.told(measured, figure), may))
    heads = [*throughput.HEADS, f"{what.upper()} measured", "moeplan", "error", "band", "inside", ""]
    return _table(heads, rows)


def _pairs() -> str:
    rows = [
        (*throughput.cells(each.run), f"{each.run.rate:,.0f}", f"{each.rate:,.0f}")
        for pair in throughput.pairs(throughput.outcomes())
        for each in pair
    ]
    return _table([*throughput.HEADS, "measured", "moeplan"], rows)


def _routing_doubts() -> str:
    by_id = {each.row.id: each for each in routing_observed.outcomes()}
    others = min(
        found.value for asked in routing_priors.ASKED if asked.growth and routing_observed.BAR not in asked.growth
        for found in (routing_priors.derived(asked)[1],) if found is not None
    )  # fmt: skip
    return ROUTING_DOUBTS.format(
        low=SEQUENCE_GROWTH_LOW,
        others=others,
        default=by_id[routing_observed.BAR].predicted,
        slope_ms=routing_observed.step_slope_s(by_id["oss-step-linear"].row) * 1e3,
    )


def _left_out() -> str:
    """Figures that nothing predicts, by the reason."""
    rows = [(why, str(len(ids)), ", ".join(ids)) for why, ids in routing_observed.unpredicted().items()]
    return _table(["not predicted, since", "figures", "rows"], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
