"""Agreement of moeplan with figures from outside.

    python benchmarks/accuracy.py params    counts of parameters, by role
    python benchmarks/accuracy.py kv        elements of the cache under the transformers library's own rules
    python benchmarks/accuracy.py weights   bytes and parameters by checkpoint headers
    python benchmarks/accuracy.py memory    memory of deployments, against public logs of engines
    python benchmarks/accuracy.py latency   times of expert kernels, against public measurements of other shapes
    python benchmarks/accuracy.py ops       times of products, attention and collectives, likewise
    python benchmarks/accuracy.py throughput time to the first token and per output token, against published serving runs
    python benchmarks/accuracy.py routing   how routers use experts, against published figures
    python benchmarks/accuracy.py speculation steps with drafts, against published speed-ups
    python benchmarks/accuracy.py offload   experts in host memory: bounds, against published speeds
    python benchmarks/accuracy.py page      writes docs/accuracy.md; with --check only says whether it is up to date

The first two are held against counts made by building each config with transformers 5.23.0 on the meta device: against
the shared corpus where it lies beside the checkout (`../shared`), else against the compact copy of its figures in
`tests/data` and the built-in catalogue. The third holds configs against headers: of checkpoints as transformers 5.23.0
would save them (which has to be installed), in float32, and of layouts as publishers saved them
(`tests/data/published_tensors`).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import latency, offload, ops, routing_observed, speculation, throughput  # noqa: E402
from benchmarks.memory import outcomes, passes, summary  # noqa: E402
from moeplan.core.checkpoint import Checkpoint  # noqa: E402
from moeplan.core.kv_cache import CacheCost, cache_cost, cache_rows  # noqa: E402
from moeplan.core.matching import match  # noqa: E402
from moeplan.core.model import ModelSpec  # noqa: E402
from moeplan.core.quant import BF16, FP32, Quantisation, fold_bytes, holdings  # noqa: E402
from moeplan.core.weights import Parameters, count_parameters, inventory, parameters  # noqa: E402
from moeplan.engines import load  # noqa: E402
from moeplan.sources.catalogue import find_entry  # noqa: E402
from moeplan.sources.families import read_config  # noqa: E402
from moeplan.sources.quantisation import read_quantisation  # noqa: E402
from tests.checkpoint_stubs import published, published_names, stub, transformers_cases  # noqa: E402

ROLES = {
    "embedding": ("embedding",),
    "lm_head": ("lm_head",),
    "attention": ("attention", "indexer"),
    "linear_or_ssm": ("recurrent",),
    "router": ("router",),
    "routed_expert": ("routed_experts",),
    "moe_latent": ("moe_latent",),
    "shared_expert": ("shared_experts",),
    "dense_mlp": ("dense_mlp",),
    "norm": ("norm",),
    "other": ("other",),
    "side_modality": ("towers",),
}
"""Column of the oracle to our roles."""

COMPACT = {
    "linear_or_ssm": "recurrent",
    "routed_expert": "routed_experts",
    "shared_expert": "shared_experts",
    "side_modality": "towers",
}
"""Column of the oracle to the column of the compact table, where they differ."""

MISREAD = {"stepfun-ai--Step-3.7-Flash.json": ("vocab_size", 128_815)}
"""Rows whose config the oracle did not read as it stands, with the field and the value that it took instead.

Step-3.7-Flash: the file states its text model at the top level and a vocabulary of 128,896; transformers 5.23.0 looks
for it under `text_config`, found nothing and built its class default, 128,815. Nested as the library wants it, it
builds what we count (tests/families/test_step.py). The row is judged with the oracle's value, and shown as such.
"""

KV_CONTEXT_TOKENS = 16_384
"""Beyond every window, and a multiple of every compressed entry."""


def main() -> int:
    """Print one table; exit 1 unless every judged row agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands: dict[str, Callable[[], int]] = {
        "params": params, "kv": kv, "weights": weights, "memory": memory,
        "latency": latency.main, "ops": ops.main, "throughput": throughput.main,
        "routing": routing_observed.main, "speculation": speculation.main,
        "offload": lambda: offload.main([]),
    }  # fmt: skip
    parser.add_argument("what", choices=[*commands, "page"])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is out of date")
    asked = parser.parse_args()
    return page(check=asked.check) if asked.what == "page" else commands[asked.what]()


def params() -> int:
    """Total, active and every role."""
    print(f"{'model':<58} {'total':>17} {'active':>15}  disagreement")
    agree = judged = 0
    for name, counts, told in params_rows():
        judged += 1
        agree += told == "none"
        print(f"{name:<58} {counts.total:>17,} {counts.active:>15,}  {told}")
    print(f"\n{agree} of {judged} rows agree in total, active and all {len(ROLES)} roles")
    return int(agree != judged)


def params_rows(*, compact: bool = False) -> Iterator[tuple[str, Parameters, str]]:
    """Name, our counts, and where they disagree with the oracle's: `none` where they do not."""
    for name, row, spec in rows("param_oracle.csv", compact=compact):
        counts = parameters(spec)
        ours = {column: sum(counts.by_role[role] for role in roles) for column, roles in ROLES.items()}
        ours |= {"total": counts.total, "text_total": counts.text_total, "text_active": counts.active}
        # The compact table names columns by our roles, and has fewer of them.
        ours |= {"active": counts.active} if "id" in row else {}
        columns = {column: COMPACT.get(column, column) if "id" in row else column for column in ours}
        # An empty role is none; an empty `active` was not counted.
        held = {column: int(row[named] or 0) for column, named in columns.items() if row.get(named) or column in ROLES}
        wrong = {column: (ours[column], theirs) for column, theirs in held.items() if ours[column] != theirs}
        told = (
            "; ".join(f"{column} {value:,} (oracle {theirs:,})" for column, (value, theirs) in wrong.items()) or "none"
        )
        yield name, counts, told


def kv() -> int:
    """Elements per token beyond every window, and elements that do not grow, with one byte for each element."""
    agree = judged = 0
    print(f"{'model':<58} {'per token':>10} {'per sequence':>13}  disagreement")
    for name, cost, told in kv_rows():
        judged += 1
        agree += told == "none"
        print(f"{name:<58} {cost.bytes_per_token:>10,} {cost.bytes_per_sequence:>13,}  {told}")
    print(f"\n{agree} of {judged} rows agree per token and per sequence")
    return int(agree != judged)


def kv_rows(*, compact: bool = False) -> Iterator[tuple[str, CacheCost, str]]:
    """Name, our cost with one byte for each element, and what the oracle says where it says something else."""
    engine = load("transformers")
    for name, row, spec in rows("kv_oracle.csv", compact=compact):
        per_token = row.get("elements_per_token") or row.get("kv_elements_per_token_long")
        per_sequence = row.get("elements_per_sequence") or row.get("kv_fixed_elements_long")
        if not per_token or not per_sequence:
            continue
        rules = engine.cache_rules(spec, asked=None, scheme=None, weight_dtype="bfloat16", capability=None)
        rules = rules._replace(kv_dtype="fp8", state_dtype="fp8", conv_dtype="fp8")
        cost = cache_cost(cache_rows(spec), rules, KV_CONTEXT_TOKENS)
        theirs = (float(per_token), int(per_sequence))
        same = (float(cost.bytes_per_token), cost.bytes_per_sequence) == theirs
        yield name, cost, "none" if same else f"oracle {theirs[0]:,.0f} and {theirs[1]:,}"


def memory() -> int:
    """Every observation beside the estimate, and the bounds that the counted ones keep."""
    found = outcomes()
    print(f"{'row':<10} {'judge':<8} {'model':<24} {'engine':<16} {'observed':>32} {'moeplan':>40} {'error':>11}")
    for each in found:
        row, error = each.row, f"{each.error:+.2%}" if each.unit == "share" else f"{each.error:+.2f} {each.unit}"
        marks = ("" if each.counted else " not counted") + (" CONTRADICTED" if each.contradicts else "")
        engine = f"{row['engine']} {row.get('version', '')}"
        print(
            f"{row['id']:<10} {row['judge']:<8} {row['model']:<24} {engine:<16} {each.observed:>32} {each.predicted:>40} {error:>11}{marks}"
        )
    print()
    for judge, count, middle, worst, bound, kept in summary(found):
        unit = "" if judge == "end" else "%"
        scale = 1 if judge == "end" else 100
        print(f"{judge:<8} {count:>2} rows, median {middle * scale:.2f}{unit or ' GiB'}, worst {worst * scale:.2f}{unit or ' GiB'}"
              f" ({bound}): {'kept' if kept else 'BROKEN'}")  # fmt: skip
    return int(not passes(found))


def all_pass() -> bool:
    """Whether observations of memory, runs of servers, steps with drafts, speeds with experts in host memory and figures of routers
    keep their bounds."""
    kept = passes(outcomes()) and throughput.passes(throughput.outcomes())
    kept = kept and speculation.passes(speculation.outcomes())
    kept = kept and all(each.holds for each in offload.outcomes())
    return kept and routing_observed.passes(routing_observed.outcomes())


def page(*, check: bool) -> int:
    """Write docs/accuracy.md, or with `check` compare it."""
    from benchmarks.accuracy_page import page as text_of

    def agreement(told: Iterable[str]) -> tuple[int, int]:
        all_told = list(told)
        return all_told.count("none"), len(all_told)

    text = text_of(
        agreement(told for _, _, told in params_rows(compact=True)),
        agreement(told for _, _, told in kv_rows(compact=True)),
    )
    path = ROOT / "docs" / "accuracy.md"
    if not check:
        path.write_text(text, encoding="utf-8")
        return int(not all_pass())
    if path.exists() and path.read_text(encoding="utf-8") == text:
        print("docs/accuracy.md is what the code says")
        return int(not all_pass())
    print("docs/accuracy.md is out of date: run python benchmarks/accuracy.py page")
    return 1


def weights() -> int:
    """Config against headers: bytes by role, parameters by role, and tensors that only one side has."""
    agree = judged = 0
    print(
        f"{'checkpoint':<52} {'tensors':>8} {'config bytes':>17} {'header bytes':>17} {'parameters':>17}  disagreement"
    )
    for name, spec, quantisation, saved, differs, total_bytes in checkpoints():
        matched = match(saved, inventory(spec), quantisation, tied_embedding=spec.tied_embedding)
        promised, counted = parameters(spec), count_parameters(spec, matched.counted, "derived")
        promise, stored = fold_bytes(holdings(inventory(spec), quantisation)), fold_bytes(matched.holdings)
        config_bytes = promise.checkpoint_bytes
        if not stored.mtp_bytes:  # transformers builds no MTP layers
            promised = promised._replace(mtp_unique=0, mtp_duplicate=0)
            config_bytes = promise.total_bytes
        wrong = [
            f"{field} {getattr(promised, field)} (headers {getattr(counted, field)})"
            for field in promised._fields
            if getattr(promised, field) != getattr(counted, field)
        ]
        computed = sum(each.num_bytes for each in matched.recognised if each.kind == "computed")
        explained = {**differs, "other": computed}
        wrong += [
            f"{role} {size:,} bytes (headers {stored.by_role[role]:,})"
            for role, size in promise.by_role.items()
            if stored.by_role[role] - explained.get(role, 0) != size
        ]
        wrong += [f"not in the config: {each.name}" for each in matched.unmatched]
        wrong += [f"not in the headers: {missing}" for missing in matched.missing]
        if total_bytes not in (None, saved.num_bytes):
            wrong.append(f"published are {total_bytes:,} bytes")
        told = "; ".join(wrong) or "none"
        if not wrong and any(explained.values()):
            told += "".join(
                f", but for {off:+,} bytes of {role} that no config tells" for role, off in explained.items() if off
            )
        judged += 1
        agree += not wrong
        print(
            f"{name:<52} {len(saved.tensors):>8,} {config_bytes:>17,} {saved.num_bytes:>17,} {counted.total:>17,}  {told}"
        )
    print(f"\n{agree} of {judged} checkpoints agree in bytes and parameters of every role")
    return int(agree != judged)


def checkpoints() -> Iterator[tuple[str, ModelSpec, Quantisation, Checkpoint, dict[str, int], int | None]]:
    """Name, model, formats, headers, bytes by role that no config tells, and the total that the publisher states."""
    for name in published_names():
        layout = published(name)
        spec = read_config(layout.config, name)
        quantisation = read_quantisation(layout.config, layout.sidecar) or Quantisation("bf16", BF16)
        explained = dict([layout.differs]) if layout.differs else {}
        yield name, spec, quantisation, layout.checkpoint, explained, layout.total_bytes
    for name, config in transformers_cases().items():
        saved = stub(config)
        # Tables of expert numbers are int64; the config's bytes are those of float32.
        tables = sum(each.num_bytes // 2 for each in saved.tensors if each.dtype == "I64")
        yield name, read_config(config, name), Quantisation("fp32", FP32), saved, {"router": tables}, None


def rows(table: str, *, compact: bool = False) -> Iterator[tuple[str, dict[str, str], ModelSpec]]:
    """Name, figures and model of every row that the oracle could build; in a lone clone those of the compact `table`."""
    corpus = ROOT.parent / "shared"
    if not compact and (corpus / "data" / "param-oracle.csv").exists():
        for row in _csv(corpus / "data" / "param-oracle.csv"):
            if row["total"]:
                path = corpus / "model-configs" / row["file"]
                config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                name = row["file"].removesuffix(".json").replace("--", "/")
                if row["file"] in MISREAD:
                    field, value = MISREAD[row["file"]]
                    config[field], name = value, f"{name} with {field} {value}"
                yield name, row, read_config(config, row["file"])
        return
    for row in _csv(ROOT / "tests" / "data" / table):
        entry = find_entry(row["id"])
        if entry is None:
            raise SystemExit(f"{row['id']} is not in the catalogue")
        yield row["id"], row, read_config(entry.config, entry.id)


def _csv(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


if __name__ == "__main__":
    sys.exit(main())
