"""The day of a record: stated, else of SOURCE_DATE_EPOCH, else today (UTC)."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from moeplan.core.errors import InputError
from moeplan.core.record import DateOrigin
from moeplan.sources.records import is_date

EPOCH = "SOURCE_DATE_EPOCH"
"""Seconds since 1970 (https://reproducible-builds.org/specs/source-date-epoch/)."""
LAST_EPOCH = 253_402_300_799
"""The end of the year 9999."""


def day_of(stated: str | None) -> tuple[str, DateOrigin]:
    """Year, month and day with dashes, and who said so. InputError for what is no day."""
    if stated is not None:
        if not is_date(stated):
            raise InputError(f"--date {stated!r} is no day", hint="write year, month and day: --date 2026-11-22")
        return stated, "stated"
    epoch = os.environ.get(EPOCH, "")
    if not epoch:
        return datetime.now(UTC).date().isoformat(), "clock"
    if not (epoch.isascii() and epoch.isdigit() and len(epoch) < 16 and int(epoch) <= LAST_EPOCH):
        raise InputError(
            f"{EPOCH}={epoch!r} is no number of seconds since 1970", hint="unset it, or state --date 2026-11-22"
        )
    return datetime.fromtimestamp(int(epoch), UTC).date().isoformat(), "source-date-epoch"
