"""A capture in words: what was run, what failed, and the file that it made."""

from collections.abc import Iterator, Sequence

from moeplan.core.model import Remark
from moeplan.report.routing_words import counted
from moeplan.report.routing_written_words import written_words
from moeplan.routing.result import Captured


def verdict_words(result: Captured) -> str:
    """How far it came, in one sentence."""
    if not result.complete:
        left = result.prompts - result.captured - result.known - result.failed
        return f"INTERRUPTED: {counted(left, 'prompt is', 'prompts are')} left; the same command takes them up"
    if result.written is None:
        return "NOTHING CAPTURED: no prompt could be run"
    return (
        "CAPTURED"
        if not result.failed
        else f"CAPTURED, without {counted(result.failed, 'prompt', 'prompts')} that failed"
    )


def run_words(result: Captured) -> str:
    """`58 of 60 prompts run, 12,480 tokens; 2 known already, 0 failed`."""
    parts = [
        f"{result.captured:,} of {counted(result.prompts, 'prompt', 'prompts')} run, {counted(result.tokens, 'token', 'tokens')}"
    ]
    if result.known:
        parts.append(f"{result.known:,} known already")
    if result.failed:
        parts.append(f"{result.failed:,} failed")
    return "; ".join(parts)


def file_words(result: Captured) -> Iterator[str]:
    """What the file holds now."""
    if result.written is not None:
        yield from written_words(result.written)


def notes_words(result: Captured) -> Sequence[Remark]:
    """What failed: the file's own notes tell of earlier runs too."""
    return result.notes if result.written is None else result.written.notes
