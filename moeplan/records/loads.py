"""The load of a record: what was asked for, also where nobody knows how fast it would be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moeplan.core.model import ModelSpec
from moeplan.core.workload import LoadAsked
from moeplan.estimate import Estimate

OF_A_LOAD = ("input", "output", "ttft", "tpot", "arrival", "workload")
ASK_FOR_ONE = (*OF_A_LOAD, "routing", "skew", "draft_tokens", "acceptance", "accept_length")
"""Options with which an estimate has a load, as with `speed`."""


def load_of(found: Estimate, spec: ModelSpec | None, asked: Mapping[str, Any]) -> LoadAsked | None:
    """The load of the estimate; where it has no speed (no card, kernels that nobody measured), that of the options. None where
    no load was asked for. `spec` is the model that was estimated, None where nobody read one."""
    if found.speed is not None:
        return found.speed.load
    if spec is None or not (asked.get("speed") or any(asked.get(name) is not None for name in ASK_FOR_ONE)):
        return None
    from moeplan.estimate.workload import make_workload

    options: dict[str, Any] = {name if name != "workload" else "file": asked.get(name) for name in OF_A_LOAD}
    origins = found.request.origins
    # One that nobody stated is the default, or comes of a rate.
    stated = found.request.concurrency if origins.get("concurrency") == "stated" else None
    made = make_workload(spec, [], context=found.request.context_tokens, concurrency=stated, **options)
    told = {name: origin for name, origin in origins.items() if name in made.origins}
    return made._replace(origins={**made.origins, **told}).echo()
