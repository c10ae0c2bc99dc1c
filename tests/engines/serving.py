"""What engines' rules look at, built for a test: a model, a layout, a card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moeplan.core.deployment import Deployment, Serving, Settings, Value
from moeplan.core.hardware import usable
from moeplan.core.kv_cache import cache_rows
from moeplan.core.layout import AskedLayout
from moeplan.core.model import ModelSpec, MoeFfn
from moeplan.core.placement import RankView, places, stage_spec
from moeplan.core.quant import BY_DTYPE, Quantisation
from moeplan.core.weights import inventory
from moeplan.engines import load
from moeplan.sources.engine_constants import engine_constants
from moeplan.sources.hardware_profiles import find_hardware


def serving(
    spec: ModelSpec,
    engine: str = "vllm",
    *,
    gpu: str | None = None,
    context: int = 8192,
    sequences: int = 1,
    quantisation: Quantisation | None = None,
    version: str | None = None,
    stated: Mapping[str, Value] | None = None,
    num_devices: int | None = None,
    utilization: float | None = None,
    kv_dtype: str | None = None,
    **degrees: Any,
) -> Serving:
    """An engine about to serve `spec`; degrees are those of `AskedLayout`."""
    hardware = find_hardware(gpu)[0] if gpu else None
    base = BY_DTYPE[spec.dtype]
    layout = load(engine).resolve_layout(spec, AskedLayout(**degrees), num_devices, stated or {})
    deployment = Deployment(
        engine,
        context,
        sequences,
        layout=layout,
        stated=stated or {},
        utilization_fraction=utilization,
        kv_dtype=kv_dtype,
    )
    return Serving(
        spec,
        inventory(spec),
        quantisation or Quantisation(base.name, base),
        deployment,
        hardware,
        usable(hardware) if hardware else None,
        engine_constants(engine, version),
    )


def settings(of: Serving) -> Settings:
    """The engine's settings for it."""
    return load(of.deployment.engine).settle(of)


def ranks(of: Serving) -> tuple[RankView, ...]:
    """All ranks, without weight lines; those that hold the same once."""
    division = load(of.deployment.engine).division(of, settings(of))
    experts = [ffn.num_experts for layer in of.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)]
    found = []
    for place in places(of.layout, division, len(of.spec.layers), max(experts, default=0)):
        spec = stage_spec(of.spec, place.stage)
        found.append(RankView(place, division, spec, cache_rows(spec)))
    return tuple(found)
