"""A profile as a person reads it: the device, its figures, the kernels, what changed, what could not be measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from moeplan.profile.result import Profile
from moeplan.report.page import Column, blank_page, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.profile_words import (
    CHANGE_HEADS,
    FIGURE_HEADS,
    KERNEL_HEADS,
    against_words,
    change_rows,
    device_words,
    figure_rows,
    kept_words,
    kernel_rows,
    not_here_words,
    outcome_words,
    problem_words,
    unchanged_words,
)

if TYPE_CHECKING:
    from rich.console import Console


def profile_table(profile: Profile, *, width: int, color: bool, unicode: bool) -> str:
    """The profile as text of at most `width` columns; ASCII alone where `unicode` is False."""
    profile = printable_record(profile)
    page = blank_page(width, color=color)
    page.print(profile.device.name, style="bold", overflow="fold")
    print_prose(page, device_words(profile))
    print_prose(page, outcome_words(profile), style="bold green" if profile.complete else "bold yellow")
    # A narrow page loses what it was measured by first, then the spread.
    _listing(page, FIGURE_HEADS, figure_rows(profile), ranks=(0, 0, 1, 2), right=(1, 2))
    _listing(page, KERNEL_HEADS, kernel_rows(profile), ranks=(0, 1, 4, 5, 2, 3, 6), right=(4, 5, 6))
    title = against_words(profile)
    if title is not None:
        page.print()
        print_prose(page, title, style="bold")
    _listing(page, CHANGE_HEADS, change_rows(profile), ranks=(0, 2, 1, 0), right=(1, 2, 3), apart=False)
    unchanged = unchanged_words(profile)
    if unchanged is not None:
        print_prose(page, unchanged)
    reasons, elsewhere = problem_words(profile), not_here_words(profile)
    if reasons or elsewhere:
        page.print()
    for reason in reasons:
        print_prose(page, reason, "no figure: ")
    for sentence in elsewhere:
        print_prose(page, sentence)
    kept = kept_words(profile)
    if kept:
        page.print()
        for sentence in kept:
            print_prose(page, sentence)
    print_notes(page, profile.notes)
    return page_text(page, unicode=unicode)


def _listing(
    page: Console,
    heads: Sequence[str],
    rows: Iterable[tuple[str, ...]],
    *,
    ranks: Sequence[int],
    right: Sequence[int],
    apart: bool = True,
) -> None:
    table = list(rows)
    if not table:
        return
    if apart:
        page.print()
    print_listing(
        page,
        [
            Column(head, cells, rank, right=place in right)
            for place, (head, cells, rank) in enumerate(zip(heads, zip(*table, strict=True), ranks, strict=True))
        ],
    )
