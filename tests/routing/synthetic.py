"""A made-up model's choices: skewed, with favourites of each sequence, neighbours that share experts. Not of any real model.

python -m tests.routing.synthetic        writes examples/routing anew
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moeplan.core.routing_capture import CapturedLayer, CapturedPrompt, CaptureHeader, RoutingFold
from moeplan.core.routing_profile import Provenance, RoutingProfile
from moeplan.sources.routing_files import CaptureWriter, write_profile

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "routing"

MODEL = "example/synthetic-moe-6x32"
PROVENANCE = Provenance(source="made up, of no real model", seed=1)
CLASSES = ("easy", "code", "mathematics")


class Made(NamedTuple):
    """How unevenly and how steadily the made-up model chooses."""

    layers: int = 6
    experts: int = 32
    chosen: int = 4
    skew: float = 0.6
    """Zipf exponent of the middle layer; the first has half of it, the last half more."""
    kept: float = 0.3
    """Chance that a token keeps an expert of the token before."""
    own: float = 0.5
    """How much a sequence has favourites of its own: the spread of a log-normal factor on the weights."""
    dead: int = 0
    """Experts of the last layer that are never chosen."""
    flips: float = 0.0
    """Chance that a token's last expert is another one: what another precision does."""
    order: int = 1
    """Which experts are the popular ones."""
    moved: int = 0
    """Last layers whose popular experts are others."""
    dtype: str = "bfloat16"


PLAIN = Made()


def header(made: Made = PLAIN) -> CaptureHeader:
    """The header of a capture of that model."""
    layers = tuple(CapturedLayer(layer, made.experts, made.chosen) for layer in range(1, made.layers + 1))
    return CaptureHeader(MODEL, None, layers, PROVENANCE._replace(dtype=made.dtype))


def prompts(made: Made = PLAIN, *, sequences: int = 24, prefill: int = 40, decode: int = 8) -> Iterator[CapturedPrompt]:
    """Captured sequences, the same ones each time."""
    order = random.Random(made.order)  # noqa: S311 - no secret
    weights = []
    for layer in range(made.layers):
        exponent = made.skew * (0.5 + layer / max(1, made.layers - 1))
        popular = [(rank + 1) ** -exponent for rank in range(made.experts)]
        order.shuffle(popular)
        if layer >= made.layers - made.moved:
            popular.reverse()
        if layer == made.layers - 1:
            for expert in sorted(range(made.experts), key=popular.__getitem__)[: made.dead]:
                popular[expert] = 0.0
        weights.append(popular)
    for number in range(sequences):
        # Each sequence has chances of its own, so that `flips` leave the other choices as they are.
        draw, flip = random.Random(1000 + number), random.Random(5000 + number)  # noqa: S311 - no secret
        yield CapturedPrompt(
            hashlib.sha256(f"prompt {number}".encode()).hexdigest(),
            CLASSES[number % len(CLASSES)],
            prefill,
            decode,
            _choices(made, weights, prefill + decode, draw, flip),
            margins=tuple(0.001 * (layer + 1) for layer in range(made.layers)),
        )


def profile(made: Made = PLAIN, *, sequences: int = 24) -> RoutingProfile:
    """All of them folded."""
    fold = RoutingFold(header(made))
    for prompt in prompts(made, sequences=sequences):
        fold.add(prompt)
    return fold.profile()


def write_capture(path: Path, made: Made = PLAIN, *, sequences: int = 12) -> None:
    """A capture of it."""
    path.unlink(missing_ok=True)
    with CaptureWriter(path, header(made)) as writer:
        for prompt in prompts(made, sequences=sequences):
            writer.append(prompt)


def main() -> None:
    """Write the examples anew."""
    EXAMPLES.mkdir(exist_ok=True)
    write_capture(EXAMPLES / "synthetic.jsonl")
    write_capture(EXAMPLES / "synthetic-fp8.jsonl", Made(flips=0.02, dtype="float8_e4m3fn"))
    write_profile(EXAMPLES / "synthetic.yaml", profile(sequences=96))
    write_profile(EXAMPLES / "synthetic-later.yaml", profile(Made(moved=2), sequences=96))


def _choices(made: Made, weights: list[list[float]], tokens: int, draw: random.Random, flip: random.Random) -> bytes:
    own = [[weight * draw.lognormvariate(0, made.own) for weight in layer] for layer in weights]
    before: list[list[int]] = [[] for _ in weights]
    flat = array("H")
    for _ in range(tokens):
        for layer, there in enumerate(own):
            chosen = [expert for expert in before[layer] if draw.random() < made.kept]
            while len(chosen) < made.chosen:
                (expert,) = draw.choices(range(made.experts), there)
                if expert not in chosen:
                    chosen.append(expert)
            before[layer] = chosen
            shown = list(chosen)
            if flip.random() < made.flips:
                shown[-1] = flip.choice([expert for expert in range(made.experts) if expert not in chosen])
            flat.extend(shown)
    return flat.tobytes()


if __name__ == "__main__":
    main()
