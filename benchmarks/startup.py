"""How fast moeplan starts: whole-process medians, and their ratio to a bare interpreter in the same run.

    python benchmarks/startup.py [--runs N]

Commands take turns, so that a machine that slows down slows all of them. Peak memory is the largest of the runs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "moeplan --help": ["-m", "moeplan", "--help"],
    "moeplan estimate, JSON": ["-m", "moeplan", "estimate", "mixtral-8x7b", "--gpu", "h100", "--offline", "--json"],
    "moeplan estimate, table": ["-m", "moeplan", "estimate", "mixtral-8x7b", "--gpu", "h100", "--offline"],
}
BARS = {"moeplan --help": 10, "moeplan estimate, JSON": 12, "moeplan estimate, table": 16}
"""Most times a bare interpreter, by design."""
MOST_PEAK_MIB = 60


def main() -> int:
    """Print the table; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11, help="counted runs of each command, after one to warm up")
    runs = parser.parse_args().runs
    # As installed: pip compiles a package once, so no run pays for it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(runs + 1):
        for name, arguments in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            if number:
                seconds[name].append(time.perf_counter() - started)
    bare = statistics.median(seconds["python -c pass"])
    missed = False
    print(f"{'command':<26} {'median':>9} {'spread':>17} {'ratio':>7} {'bar':>5} {'peak':>9}")
    for name, arguments in COMMANDS.items():
        took = seconds[name]
        middle, peak = statistics.median(took), _peak_mib(arguments)
        bar = BARS.get(name)
        missed |= (bar is not None and middle / bare > bar) or peak > MOST_PEAK_MIB
        spread = f"{min(took) * 1e3:.0f} to {max(took) * 1e3:.0f} ms"
        print(f"{name:<26} {middle * 1e3:>6.0f} ms {spread:>17} {middle / bare:>7.1f} {bar or '':>5} {peak:>5.0f} MiB")
    return int(missed)


def _peak_mib(arguments: list[str]) -> float:
    """Peak resident memory of one run, in MiB, measured in a process of its own so that runs do not mix."""
    pid = os.fork()
    if pid == 0:
        with open(os.devnull, "w", encoding="utf-8") as sink:
            subprocess.run([sys.executable, *arguments], stdout=sink, check=True)
        os._exit(min(255, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
