"""What an engine's log tells of its memory, as figures of a record; `moeplan validate` holds it against the estimate."""

from __future__ import annotations

from pathlib import Path

from moeplan.core.engine_log import EngineLog, Quantity
from moeplan.core.record import Figure
from moeplan.core.record_figures import order_of
from moeplan.sources.engine_logs import read_log

_FULLEST: dict[str, Quantity] = {"weights_bytes": "weights_bytes", "load_peak_bytes": "load_peak_bytes"}
"""Of these the largest of all ranks counts."""
_LEAST: dict[str, Quantity] = {
    "kv_pool_bytes": "kv_pool_bytes",
    "kv_tokens": "kv_tokens",
    "max_concurrency": "max_concurrency",
}
"""Of these the least: the fullest rank decides."""


def read_figures(path: str | Path, engine: str | None) -> tuple[EngineLog, tuple[Figure, ...]]:
    """The log's last start, and its figures. Raises InputError for what is no log of that engine."""
    told = read_log(path, engine)
    found = []
    for names, choose in ((_FULLEST, max), (_LEAST, min)):
        for name, quantity in names.items():
            values = [each.value for each in told.readings if each.quantity == quantity and each.part is None]
            if values:
                found.append(Figure(name, choose(values), None, None, "measured", Path(path).name))
    return told, tuple(sorted(found, key=lambda figure: order_of(figure.name)))
