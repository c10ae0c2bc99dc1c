"""Everything that a machine with a GPU can tell, in one run of under nine minutes, without network, from the source tree.

    python benchmarks/gpu.py OUT                 a folder for the results
    python benchmarks/gpu.py OUT --minutes 5     less time: what does not fit is named
    python benchmarks/gpu.py OUT --dry-run       on the CPU, with small cases: shows that it runs

In this order, each within its share of the time: the default profile (into OUT/profiles, as `moeplan profile` writes it),
tests marked `gpu`, whole models with random weights beside their estimate, and the rest of the full profile until the time
is over. OUT/gpu.md and OUT/gpu.yaml hold the results; a summary is printed last.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from moeplan.core.measurement import Point  # noqa: E402
from moeplan.core.units import gib  # noqa: E402
from moeplan.estimate import estimate  # noqa: E402
from moeplan.profile import Profile, profile  # noqa: E402
from moeplan.profile.record import read_record  # noqa: E402
from moeplan.report.as_json import plain  # noqa: E402
from moeplan.report.profile_markdown import profile_markdown  # noqa: E402
from moeplan.sources.catalogue import find_entry  # noqa: E402
from moeplan.validate.result import Comparison  # noqa: E402

MODELS = ("olmoe-1b-7b", "deepseek-v2-lite", "qwen3-30b-a3b", "gpt-oss-20b", "mixtral-8x7b")
"""Whole models with random weights, the smallest first: what time is left for counts."""

BARS = {"decode": 0.75, "prefill": 0.5, "unused points": 0.08, "R² over distinct": 0.98}
"""What is hoped for: shares of the measured copy bandwidth and matrix rate, median error, R squared."""


class Done(NamedTuple):
    """One step: what it found, or why it did not."""

    name: str
    seconds: float
    found: Any
    problem: str | None


class Clock:
    """The time that is left."""

    def __init__(self, minutes: float) -> None:
        self.begin = time.monotonic()
        self.end = self.begin + 60 * minutes
        self.done: list[Done] = []

    def left_s(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def step(self, name: str, least_s: float, body: Callable[[], Any]) -> Any:
        """What `body` returns; None where the time is over or where it fails, with the reason kept."""
        begin, found, problem = time.monotonic(), None, None
        if self.left_s() < least_s:
            problem = f"not run: {max(0, self.left_s()):.0f} s were left, and it wants {least_s:.0f}"
        else:
            print(f"[{begin - self.begin:5.0f} s] {name}", flush=True)
            try:
                found = body()
            except Exception as error:  # noqa: BLE001 - one step that fails must not take the others along
                traceback.print_exc()
                problem = f"{type(error).__name__}: {error}"
        self.done.append(Done(name, time.monotonic() - begin, found, problem))
        return found


def main() -> int:
    """Run the steps, write both files, print the summary. Exit 1 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--device", default=None)
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(asked.minutes)
    device = "cpu" if asked.dry_run else asked.device
    folder = asked.out / "profiles"
    shared: dict[str, Any] = {"device": device, "profiles": folder, "offline": True}
    first = clock.step(
        "profile", 30, lambda: profile(**shared, effort="quick" if asked.dry_run else "default", progress=_told())
    )
    clock.step("tests marked gpu", 30, lambda: _tests(min(120.0, clock.left_s())))
    model = partial(_model, out=asked.out, device=device, dry_run=asked.dry_run)
    for name in MODELS[:1] if asked.dry_run else MODELS:
        clock.step(f"model {name}", 25, partial(model, name))
    whole = None
    if first is not None and not asked.dry_run:
        whole = clock.step("full profile", 20, lambda: _full(shared, first, clock))
    best = whole or first
    text, content = _written(clock, best)
    (asked.out / "gpu.md").write_text(text, encoding="utf-8")
    import yaml

    (asked.out / "gpu.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    print("\n" + "\n".join(_summary(clock, best)))
    return 1 if any(step.problem for step in clock.done) else 0


# Steps -------------------------------------------------------------------------------------------------------


def _told() -> Callable[[float, float, str], None]:
    last = [""]

    def told(done_s: float, total_s: float, now: str) -> None:
        section = now.partition(":")[0]
        if section != last[0]:
            last[0] = section
            print(f"          {done_s:4.0f} of {total_s:.0f} s expected: {section}", flush=True)

    return told


def _full(shared: dict[str, Any], first: Profile, clock: Clock) -> Profile:
    """The full profile as far as the time reaches, without cases that the default one has measured."""

    def told(done_s: float, total_s: float, now: str) -> None:
        if clock.left_s() < 10:
            raise KeyboardInterrupt

    return profile(**shared, effort="full", name=first.profile, resume=True, progress=told)


def _tests(limit_s: float) -> str:
    """The last line of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/measure"]
    if importlib.util.find_spec("hypothesis") is None:
        command.append("--noconftest")  # the suite's own conftest wants libraries that only its extra brings
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    if done.returncode not in (0, 5):
        print("\n".join(lines[-40:]))
        raise RuntimeError(lines[-1] if lines else f"exit code {done.returncode}")
    return lines[-1]


def _model(name: str, *, out: Path, device: str | None, dry_run: bool) -> tuple[Comparison, ...]:
    """A model run here beside its estimate."""
    from moeplan.validate.machine import compare_machine, run_model

    entry = find_entry(name)
    if entry is None:
        raise ValueError(f"{name} is not in the catalogue")
    asked: dict[str, Any] = {"batch": 1, "context_tokens": 48} if dry_run else {"batch": 4, "context_tokens": 1024}
    ran = run_model(
        name, entry.config, **asked, decode_tokens=8, num_layers=1 if dry_run else None, device=device, seed=0
    )
    config = out / "models" / name / "config.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(ran.config), encoding="utf-8")
    found = estimate(
        config,
        gpu=ran.device.name if ran.device.kind == "cuda" else "cpu-2ch-ddr5-5600",
        engine="transformers",
        context=asked["context_tokens"],
        concurrency=asked["batch"],
        offline=True,
    )
    for note in ran.notes:
        print(f"          {note.message}")
    return compare_machine(ran.points, found)


# Results -----------------------------------------------------------------------------------------------------


def _bars(found: Profile) -> list[tuple[str, float | None, float, str]]:
    """(what, reached, bar, by): how near kernels come to what the device can do."""
    points = read_record(Path(found.points_path)).points if found.points_path else ()
    figures = {figure.name: figure.value for figure in found.figures}
    copy, rate = figures.get("copy_bytes_per_s"), figures.get("matmul_bfloat16_flops_per_s")
    decode = _best(points, "bytes_per_s", 64)
    prefill = _best(points, "flops_per_s", 16_384)
    rows = [
        ("decode", _share(decode, "bytes_per_s", copy), BARS["decode"], _by(decode)),
        ("prefill", _share(prefill, "flops_per_s", rate), BARS["prefill"], _by(prefill)),
    ]
    for kernel in found.kernels:
        by = f"{kernel.backend}, {kernel.dtype}"
        rows.append(("unused points", kernel.median_error, BARS["unused points"], by))
        rows.append(("R² over distinct", kernel.r_squared_distinct, BARS["R² over distinct"], by))
    return rows


def _best(points: Sequence[Point], value: str, tokens: int) -> Point | None:
    mine = [
        point
        for point in points
        if (point.section, point.dtype, point.case.get("tokens")) == ("experts", "bfloat16", tokens)
        and point.case.get("part") == "routed"
        and value in point.values
        and not point.backend.startswith("vllm")
    ]
    return max(mine, key=lambda point: point.values[value], default=None)


def _share(point: Point | None, value: str, whole: float | None) -> float | None:
    return point.values[value] / whole if point is not None and whole else None


def _by(point: Point | None) -> str:
    return "–" if point is None else f"{point.backend}, {point.case['shape']}, {point.case['routing']}"


def _written(clock: Clock, found: Profile | None) -> tuple[str, dict[str, Any]]:
    lines = ["# Measured on this machine", ""]
    lines += [
        f"- {step.name}: {step.seconds:.0f} s{f', {step.problem}' if step.problem else ''}" for step in clock.done
    ]
    content: dict[str, Any] = {
        "steps": [
            {"name": step.name, "seconds": round(step.seconds, 1), "problem": step.problem} for step in clock.done
        ]
    }
    models = [step for step in clock.done if step.name.startswith("model ") and step.found is not None]
    if models:
        lines += [
            "",
            "## Models with random weights",
            "",
            "| model | figure | measured | estimated | error | |",
            "|---|---|---:|---:|---:|---|",
        ]
    for step in models:
        content.setdefault("models", {})[step.name.removeprefix("model ")] = [plain(row) for row in step.found]
        for row in step.found:
            estimated = "–" if row.predicted is None else gib(round(row.predicted), 3)
            error = "–" if row.error is None else f"{row.error * 100:+.2f}%"
            judged = {True: "ok", False: "BEYOND", None: "shown"}[row.within]
            name = step.name.removeprefix("model ")
            lines.append(f"| {name} | {row.label} | {gib(round(row.observed), 3)} | {estimated} | {error} | {judged} |")
    if found is not None:
        lines += ["", "## Kernels", "", "| what | reached | bar | by |", "|---|---:|---:|---|"]
        bars = _bars(found)
        lines += [f"| {what} | {_number(got)} | {bar} | {by} |" for what, got, bar, by in bars]
        content["kernels"] = [dict(zip(("what", "reached", "bar", "by"), row, strict=True)) for row in bars]
        content["profile"] = plain(found)
        lines += ["", profile_markdown(found)]
    return "\n".join(lines) + "\n", content


def _number(value: float | None) -> str:
    return "not yet measured" if value is None else f"{value:.3f}"


def _summary(clock: Clock, found: Profile | None) -> list[str]:
    lines = [f"{step.name}: {step.problem or f'{step.seconds:.0f} s'}" for step in clock.done]
    for step in clock.done:
        if step.name.startswith("model ") and step.found is not None:
            judged = [row for row in step.found if row.judged and row.error is not None]
            told = ", ".join(f"{row.quantity} {row.error * 100:+.2f}%" for row in judged)
            lines.append(f"{step.name}: {told or 'nothing to judge'}")
        elif step.name.startswith("tests"):
            lines.append(f"{step.name}: {step.found or step.problem}")
    if found is not None:
        lines += [f"{what}: {_number(got)} (bar {bar}; {by})" for what, got, bar, by in _bars(found)]
        lines.append(f"{found.device.name}: {found.num_points} cases, {len(found.problems)} without a figure")
    lines.append(f"{time.monotonic() - clock.begin:.0f} s in all")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
