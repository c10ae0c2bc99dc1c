"""A file of counts as an import makes them: every layer of a large model, its experts unevenly used."""

from __future__ import annotations

from pathlib import Path

from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.sources.routing_files.counts import write_counts

LAYERS, EXPERTS, CHOSEN, TOKENS = 58, 256, 8, 200_000


def counts_file(folder: Path) -> Path:
    """Counts by a law of powers, the busiest expert another one in each layer."""
    layers = []
    for layer in range(LAYERS):
        weights = [(1 + (37 * expert + 11 * layer) % EXPERTS) ** -0.5 for expert in range(EXPERTS)]
        share = CHOSEN * TOKENS / sum(weights)
        counts = tuple(min(TOKENS, round(weight * share)) for weight in weights)
        layers.append(LayerRouting(3 + layer, EXPERTS, sum(counts) / TOKENS, TOKENS, counts))
    path = folder / "counts.json"
    write_counts(path, RoutingProfile("deepseek-ai/DeepSeek-V3", None, Provenance(), {"all": tuple(layers)}))
    return path
