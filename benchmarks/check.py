"""How long `moeplan check` takes for a folder of many deployments: whole-process medians, and their ratio to a bare interpreter.

    python benchmarks/check.py [--runs N]

200 files of 20 models, every deployment another one; all that fit, and as many that do not, for which ways out are tried.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_FILES = 200
NUM_MODELS = 20
MOST_SECONDS = 3.0
"""For all of them, on two cores, with a warm cache."""

DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {{name: server-{number}}}
spec:
  template:
    spec:
      nodeSelector: {{nvidia.com/gpu.product: {card}}}
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.24.0
          args: ["{model}", "--tensor-parallel-size", "{gpus}", "--max-model-len", "{length}"]
          resources: {{limits: {{nvidia.com/gpu: "{gpus}"}}}}
"""
BARRED = "200 that fit on H200"
FOLDERS = {BARRED: ("NVIDIA-H200", 8), "200 on too small a card": ("NVIDIA-L4", 1)}


def main() -> int:
    """Print the table; exit 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each command, after one to warm up")
    runs = parser.parse_args().runs
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as room:
        commands = {"python -c pass": ["-c", "pass"]}
        for name, (card, gpus) in FOLDERS.items():
            folder = Path(room, card)
            folder.mkdir()
            for number, model in enumerate(_models() * (NUM_FILES // NUM_MODELS)):
                values = {"number": number, "card": card, "model": model, "gpus": gpus, "length": 4096 + number}
                (folder / f"deploy-{number:03}.yaml").write_text(DEPLOYMENT.format(**values), encoding="utf-8")
            commands[name] = ["-m", "moeplan", "check", str(folder), "--offline", "--quiet"]
        took: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(runs + 1):
            for name, arguments in commands.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False)
                if number:
                    took[name].append(time.perf_counter() - started)
    bare = statistics.median(took["python -c pass"])
    missed = False
    print(f"{'folder':<26} {'median':>9} {'spread':>15} {'ratio':>7} {'bar':>6}")
    for name, seconds in took.items():
        middle = statistics.median(seconds)
        bar = MOST_SECONDS if name == BARRED else None
        missed |= bar is not None and middle > bar
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
        print(f"{name:<26} {middle:>7.2f} s {spread:>15} {middle / bare:>7.1f} {f'{bar:g} s' if bar else '':>6}")
    return int(missed)


def _models() -> list[str]:
    """Models of the catalogue that vLLM divides over eight cards."""
    import moeplan

    found = []
    for model in moeplan.models().models:
        answer = moeplan.estimate(
            model.id, gpu="8xh200", engine_args="vllm serve --tensor-parallel-size 8", offline=True
        )
        if answer.verdict.fits:
            found.append(model.id)
        if len(found) == NUM_MODELS:
            return found
    raise AssertionError("too few models fit")


if __name__ == "__main__":
    sys.exit(main())
