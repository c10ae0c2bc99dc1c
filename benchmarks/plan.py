"""How long `moeplan plan` takes for a model of 600B parameters over all that is built in: whole processes, and plans per second.

    python benchmarks/plan.py [--runs N]

All profiles, 1 to 64 GPUs, every layout, format and engine. Ranked by GPUs no card is left out for want of a price.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

MODEL = "deepseek-v3"
LOAD = ["--context", "8k", "--concurrency", "64", "--input", "1024", "--output", "1024"]
MOST_SECONDS, MOST_MIB = 3.0, 100.0
"""Of a whole process, on two cores."""
COMMANDS = {
    "ranked by GPUs, all cards": ["--rank", "gpus"],
    "ranked by cost, cards with a price": ["--rank", "cost"],
    "the same, limits stated": ["--rank", "cost", "--ttft", "2s", "--tpot", "40ms"],
    "the same, with fallbacks": ["--rank", "cost", "--ttft", "2s", "--tpot", "40ms", "--fallback", "all"],
}
BARRED = tuple(COMMANDS)[:3]


def main() -> int:
    """Print the table; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each command")
    runs = parser.parse_args().runs
    print(f"{'search':<36} {'plans':>9} {'worked out':>11} {'median':>8} {'plans/s':>10} {'bar':>6}")
    missed = False
    for name, options in COMMANDS.items():
        took, told = [], {}
        for _ in range(runs):
            words = [sys.executable, "-m", "moeplan", "plan", MODEL, "--offline", "--json", *LOAD, *options]
            started = time.perf_counter()
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            took.append(time.perf_counter() - started)
            told = json.loads(done.stdout)["searched"]
        median = statistics.median(took)
        bar = f"{MOST_SECONDS:g} s" if name in BARRED else ""
        missed |= name in BARRED and median > MOST_SECONDS
        print(
            f"{name:<36} {told['plans']:>9,} {told['evaluated']:>11,} {median:>6.2f} s {told['plans'] / median:>10,.0f} {bar:>6}"
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB (at most {MOST_MIB:.0f})")
    return int(missed or peak > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
