"""Everything that a machine with a GPU can tell, in one run of under nine minutes, without network, from the source tree.

    python benchmarks/gpu.py OUT                 a folder for the results
    python benchmarks/gpu.py OUT --minutes 5     less time: what does not fit is named
    python benchmarks/gpu.py OUT --dry-run       on the CPU, with small cases: shows that it runs

In this order, each within its share of the time: the default profile (into OUT/profiles, as `moeplan profile` writes it),
tests marked `gpu`, whole models with random weights beside their estimate, and the rest of the full profile until the time
is over. OUT/gpu.md and OUT/gpu.yaml hold the results; a summary is printed last, with every bar of the project: kept, missed
or not measured (`gpu_bars.py`). Exit 1 where a step failed or a bar was missed, else 0; steps that the time did not reach
are named, and fail nothing. On the CPU no bar is judged.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_bars import Outcome, bar_lines, bar_table, missed, outcomes  # noqa: E402
from moeplan.core.errors import InputError  # noqa: E402
from moeplan.core.measurement import Effort  # noqa: E402
from moeplan.core.units import gib  # noqa: E402
from moeplan.profile import Profile, profile  # noqa: E402
from moeplan.profile.record import read_record  # noqa: E402
from moeplan.profile.run import Enough  # noqa: E402
from moeplan.report.as_json import as_json, plain  # noqa: E402
from moeplan.report.profile_markdown import profile_markdown  # noqa: E402
from moeplan.validate import validate  # noqa: E402
from moeplan.validate.result import Comparison  # noqa: E402

MODELS = ("olmoe-1b-7b", "deepseek-v2-lite", "qwen3-30b-a3b", "gpt-oss-20b", "mixtral-8x7b")
"""Whole models with random weights, the smallest first: what time is left for counts."""


class Done(NamedTuple):
    """One step: what it found, or why it did not."""

    name: str
    seconds: float
    found: Any
    problem: str | None
    failed: bool = False
    """False also where there was no time for it."""


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
        begin, found, problem, failed = time.monotonic(), None, None, False
        if self.left_s() < least_s:
            problem = f"not run: {max(0, self.left_s()):.0f} s were left, and it wants {least_s:.0f}"
        else:
            print(f"[{begin - self.begin:5.0f} s] {name}", flush=True)
            try:
                found = body()
            except Exception as error:  # noqa: BLE001 - one step that fails must not take the others along
                traceback.print_exc()
                problem, failed = f"{type(error).__name__}: {error}", True
        self.done.append(Done(name, time.monotonic() - begin, found, problem, failed))
        return found


def main() -> int:
    """Run the steps, write both files, print the summary. Exit 1 where a step failed or a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--device", default=None)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--only-model", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    device = "cpu" if asked.dry_run else asked.device
    if asked.only_model:
        return _only_model(asked.only_model, asked.out, device, dry_run=asked.dry_run)
    asked.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clock = Clock(asked.minutes)
    found: list[Profile] = []
    try:
        _steps(clock, asked.out, device, found, dry_run=asked.dry_run)
    finally:
        # Whatever has happened: what is known is written.
        bars = _bars(clock, found[-1] if found else None)
        text, content = _written(clock, found[-1] if found else None, bars)
        (asked.out / "gpu.md").write_text(text, encoding="utf-8")
        (asked.out / "gpu.yaml").write_text(
            yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        print("\n" + "\n".join(_summary(clock, found[-1] if found else None, bars)))
    return 1 if any(step.failed for step in clock.done) or missed(bars) else 0


def _steps(clock: Clock, out: Path, device: str | None, found: list[Profile], *, dry_run: bool) -> None:
    """All of them, the profiles into `found`."""
    asked: dict[str, Any] = {"device": device, "profiles": out / "profiles", "offline": True}
    effort: Effort = "quick" if dry_run else "default"
    # What comes after has to have its time: three minutes of a whole run.
    clock.step("profile", 30, lambda: found.append(profile(**asked, effort=effort, progress=_told(clock, 0.35))))
    if found and not found[-1].complete:
        raise KeyboardInterrupt
    clock.step("tests marked gpu", 30, lambda: _tests(min(120.0, clock.left_s())))
    for name in MODELS[:1] if dry_run else MODELS:
        clock.step(f"model {name}", 25, partial(_model, name, out, device, clock, dry_run=dry_run))
    if found and not dry_run:
        first = found[-1].profile
        clock.step(
            "full profile",
            20,
            lambda: found.append(profile(**asked, effort="full", name=first, resume=True, progress=_told(clock, 0.04))),
        )


# Steps -------------------------------------------------------------------------------------------------------


def _told(clock: Clock, share_kept: float) -> Callable[[float, float, str], None]:
    """Prints sections as they begin, and ends the profile when only that share of the whole time is left."""
    last = [""]

    def told(done_s: float, total_s: float, now: str) -> None:
        if clock.left_s() < share_kept * (clock.end - clock.begin):
            raise Enough
        section = now.partition(":")[0]
        if section != last[0]:
            last[0] = section
            print(f"          {done_s:4.0f} of {total_s:.0f} s expected: {section}", flush=True)

    return told


def _tests(limit_s: float) -> str:
    """The last line of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/measure"]
    try:
        importlib.import_module("hypothesis")
    except ImportError:
        command.append("--noconftest")  # the suite's own conftest wants libraries that only its extra brings
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    if done.returncode not in (0, 5):
        print("\n".join(lines[-40:]))
        raise RuntimeError(lines[-1] if lines else f"exit code {done.returncode}")
    return lines[-1]


def _model(name: str, out: Path, device: str | None, clock: Clock, *, dry_run: bool) -> list[Any]:
    """Rows of one model, run in a process of its own: it has its time, and its memory is gone with it."""
    command = [sys.executable, __file__, str(out), "--only-model", name]
    command += ["--device", device] if device else []
    command += ["--dry-run"] if dry_run else []
    limit_s = max(10.0, clock.left_s() - 10)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    print("".join(f"          {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
    if done.returncode not in (0, 1):
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    rows = json.loads((out / "models" / f"{name}.json").read_text(encoding="utf-8"))
    return [Comparison(**row) for row in rows["comparisons"]]


def _only_model(name: str, out: Path, device: str | None, *, dry_run: bool) -> int:
    """A model run here beside its estimate, as `moeplan validate MODEL` does it."""
    found = validate(
        name,
        device=device,
        context=48 if dry_run else 1024,
        concurrency=1 if dry_run else 4,
        layers=1 if dry_run else None,
        profiles=out / "profiles",
        offline=True,
    )
    (out / "models").mkdir(parents=True, exist_ok=True)
    (out / "models" / f"{name}.json").write_text(as_json(found), encoding="utf-8")
    for note in found.notes:
        print(note.message)
    return 0 if found.passed else 1


# Results -----------------------------------------------------------------------------------------------------


def _bars(clock: Clock, found: Profile | None) -> tuple[Outcome, ...]:
    """Every bar; nothing is measured without a profile's device."""
    try:
        points = read_record(Path(found.points_path)).points if found is not None and found.points_path else ()
    except InputError:  # interrupted before the first point
        points = ()
    return outcomes(
        found.device.kind if found is not None else "",
        {figure.name: figure.value for figure in found.figures} if found is not None else {},
        points,
        found.kernels if found is not None else (),
        {step.name.removeprefix("model "): step.found for step in _models(clock)},
    )


def _models(clock: Clock) -> list[Done]:
    """Steps of models that ran."""
    return [step for step in clock.done if step.name.startswith("model ") and step.found is not None]


def _written(clock: Clock, found: Profile | None, bars: tuple[Outcome, ...]) -> tuple[str, dict[str, Any]]:
    lines = ["# Measured on this machine", ""]
    lines += [
        f"- {step.name}: {step.seconds:.0f} s{f', {step.problem}' if step.problem else ''}" for step in clock.done
    ]
    content: dict[str, Any] = {
        "steps": [
            {"name": step.name, "seconds": round(step.seconds, 1), "problem": step.problem} for step in clock.done
        ]
    }
    lines += ["", "## Bars", "", *bar_table(bars)]
    content["bars"] = [plain(each) for each in bars]
    models = _models(clock)
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
        content["profile"] = plain(found)
        lines += ["", profile_markdown(found)]
    return "\n".join(lines) + "\n", content


def _summary(clock: Clock, found: Profile | None, bars: tuple[Outcome, ...]) -> list[str]:
    lines = [f"{step.name}: {step.problem or f'{step.seconds:.0f} s'}" for step in clock.done]
    for step in clock.done:
        if step.name.startswith("model ") and step.found is not None:
            judged = [row for row in step.found if row.judged and row.error is not None]
            told = ", ".join(f"{row.quantity} {row.error * 100:+.2f}%" for row in judged)
            lines.append(f"{step.name}: {told or 'nothing to judge'}")
        elif step.name.startswith("tests"):
            lines.append(f"{step.name}: {step.found or step.problem}")
    if found is not None:
        lines.append(f"{found.device.name}: {found.num_points} cases, {len(found.problems)} without a figure")
    lines += bar_lines(bars)
    lines.append(f"{time.monotonic() - clock.begin:.0f} s in all")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
