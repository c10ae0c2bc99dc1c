"""What ollama itself says of a model's memory, before the engine below it loads."""

from __future__ import annotations

import re

from moeplan.core.engine_log import Quantity, Reading
from moeplan.sources.engine_logs.starts import NUMBER, Start, figure

_OLLAMA = re.compile(
    rf'msg="(?P<what>model weights|kv cache|compute graph)" device="?(?P<device>[\w.:-]+)"? size="(?P<size>{NUMBER}) '
    rf'(?P<unit>(?:[KMG]iB|B))"'
)
_QUANTITIES: dict[str, Quantity] = {
    "model weights": "model_buffer_bytes", "kv cache": "kv_buffer_bytes", "compute graph": "compute_buffer_bytes",
}  # fmt: skip


def forecast(start: Start, number: int, text: str) -> None:
    """A line of ollama's own. Where llama.cpp runs below it these are a forecast, and its buffers stand above them."""
    found = _OLLAMA.search(text)
    if found is None:
        return
    value, step = figure(found["size"], found["unit"])
    quantity = _QUANTITIES[found["what"]]
    start.estimates[quantity, found["device"]] = Reading(
        quantity, value, step, None, found["device"], number, found[0]
    )  # fmt: skip


def promote(start: Start) -> None:
    """Takes the forecast for figures where no buffers were told."""
    if not any(quantity.endswith("_buffer_bytes") for quantity, *_ in start.readings):
        for (quantity, device), reading in start.estimates.items():
            start.readings[quantity, "", device, None] = reading
    start.estimates.clear()
