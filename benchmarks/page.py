"""How large the page of a 600B model is, how long it takes to write, and how long a browser takes to draw it.

    python benchmarks/page.py [--runs N]

DeepSeek-V3 on eight GPUs under a load, with the counts of 58 layers of 256 experts: the largest page that an estimate makes. It is
opened from its file in Chromium without a window, each time in a new process on two cores; drawn is when the second frame after
loading is asked for. Needs chromium, chromedriver and selenium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MOST_BYTES = 6_000_000
MOST_SECONDS = 2.0
CORES = 2
QUESTION = [
    "estimate", "deepseek-v3", "--gpu", "8xh200", "--tp", "1", "--dp", "8", "--ep", "8", "--context", "8k", "--concurrency", "64",
    "--input", "2k", "--output", "500", "--ttft", "2s", "--tpot", "40ms", "--offline",
]  # fmt: skip
DRAWN = """const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => done([performance.now(), document.querySelectorAll('svg *').length])))"""


def main() -> int:
    """Print the table; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="pages opened, each by a browser of its own")
    runs = parser.parse_args().runs
    from tests.pages.routing_counts import counts_file

    if hasattr(os, "sched_setaffinity"):  # children inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as room:
        page = Path(room, "page.html")
        words = [*QUESTION, "--routing", str(counts_file(Path(room))), "--format", "html", "-o", str(page)]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "moeplan", *words], check=True, cwd=ROOT)
        written_s = time.perf_counter() - started
        size = page.stat().st_size
        drawn = [_drawn(page) for _ in range(runs)]
    seconds = [each[0] for each in drawn]
    middle = statistics.median(seconds)
    print(f"size    {size / 1e6:6.2f} MB   bar {MOST_BYTES / 1e6:g} MB, {drawn[0][1]:,} elements drawn")
    print(f"written {written_s:6.2f} s    the whole command")
    print(f"drawn   {middle:6.2f} s    bar {MOST_SECONDS:g} s, {min(seconds):.2f} to {max(seconds):.2f} s of {runs}")
    return int(size > MOST_BYTES or middle > MOST_SECONDS)


def _drawn(page: Path) -> tuple[float, int]:
    """Seconds from the beginning of the navigation, and elements of all drawings."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(word)
    if os.geteuid() == 0:  # Chromium's sandbox does not run as root
        options.add_argument("--no-sandbox")
    browser = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
    try:
        browser.get(page.as_uri())
        took_ms, elements = browser.execute_async_script(DRAWN)
    finally:
        browser.quit()
    return took_ms / 1000, elements


if __name__ == "__main__":
    raise SystemExit(main())
