"""A file of routing that was written, in words."""

from collections.abc import Iterator

from moeplan.report.routing_words import counted, layers_words, provenance_words
from moeplan.routing.result import Written

_KINDS = {"capture": "a capture", "counts": "counts", "profile": "a profile"}


def written_words(result: Written) -> Iterator[str]:
    """What stands in it, and what to do with it."""
    yield f"{result.file} is written: {_KINDS[result.kind]} of {result.model}"
    yield (
        f"{counted(len(result.layers), 'layer', 'layers')} of {result.num_experts:,} experts, {result.experts_per_token:g} per token "
        f"({layers_words(result.layers)}) · {counted(result.tokens, 'token', 'tokens')}"
    )
    classes = f" · classes: {', '.join(result.classes)}" if result.classes else ""
    yield f"phases: {', '.join(result.phases)}{classes}"
    made = provenance_words(result.provenance)
    if made:
        yield " · ".join(made)
    yield f"next: moeplan routing report {result.file}"
