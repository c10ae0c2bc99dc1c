"""The record of a deployment from the engines that were found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moeplan.core.deployed import Deployed, Gang, Quote
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.identity import NO_EVIDENCE, Evidence, identify
from moeplan.sources.deployments.images import version_of_image
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.words import value_of

ANNOTATIONS = "moeplan/"
"""Where annotations that speak to moeplan begin."""
_VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def recorded(base: Deployed, runs: Sequence[Run], evidence: Evidence = NO_EVIDENCE) -> tuple[Deployed, ...]:
    """One record for each engine that runs in what `base` describes: engine, command, model and names are filled in.

    Several engines of one place share its machine (`host`), each with the cards that its own variables pick. Those that
    would listen at the same port are branches of one script, of which one runs.
    """
    if len(runs) == 1:
        return (_filled(base, runs[0], evidence),)
    place = base.host or base.name
    ports = [_port(run) for run in runs]
    return tuple(
        _filled(
            base._replace(
                name=f"{base.name}-{number}",
                host=place,
                not_at_once=f"{base.name}:{ports[number - 1]}" if ports.count(ports[number - 1]) > 1 else "",
                device_ids=visible_devices(run.variables) or base.device_ids,
                gang=own_gang(base.gang, run.variables),
            ),
            run,
            evidence,
        )
        for number, run in enumerate(runs, 1)
    )


def _port(run: Run) -> str:
    port = value_of(run.command, "--port")
    return "" if port is None else port.text


def _filled(base: Deployed, run: Run, evidence: Evidence) -> Deployed:
    identity = identify(run.command, evidence)
    version = version_of_image(base.image) if base.image is not None and base.engine_version is None else None
    return base._replace(
        engine=run.engine,
        engine_version=base.engine_version or version,
        command=run.command,
        variables=run.variables,
        model=identity.model,
        revision=identity.revision,
        served_names=identity.served_names,
        remarks=(*base.remarks, *identity.remarks),
    )


def visible_devices(variables: Mapping[str, Quote]) -> tuple[str, ...]:
    """The cards that `CUDA_VISIBLE_DEVICES` and its like pick; empty where they pick none, or all."""
    for name in _VISIBLE_DEVICES:
        value = variables.get(name)
        if value is not None and value.known:
            picked = tuple(each.strip() for each in value.text.split(",") if each.strip())
            return () if picked in {("all",), ("none",), ("void",), ("-1",)} else picked
    return ()


def own_gang(gang: Gang, variables: Mapping[str, Quote]) -> Gang:
    """The gang of an engine that sees only some of the cards."""
    picked = visible_devices(variables)
    if not picked:
        return gang
    variable = next(variables[name] for name in _VISIBLE_DEVICES if name in variables)
    return gang._replace(gpus_per_pod=Quote(str(len(picked)), variable.spot, "inferred", why="visible devices"))


def with_slice(gpu: Quote | None, mig: Quote | None) -> Quote | None:
    """The type of a GPU of which only a MIG slice is asked for: `NVIDIA-A100-SXM4-80GB MIG 1g.10gb`."""
    if mig is None:
        return gpu
    if gpu is None:
        return mig._replace(text=f"MIG {mig.text}")
    return gpu if "mig" in gpu.text.lower() else gpu._replace(text=f"{gpu.text} MIG {mig.text}")


def moeplan_annotations(*nodes: Node) -> dict[str, Quote]:
    """Annotations that speak to moeplan, of mappings or of lists of `name=value`; later ones win."""
    found: dict[str, Quote] = {}
    for node in nodes:
        for name, value in node.entries.items():
            quote = value.quote()
            if name.startswith(ANNOTATIONS) and quote is not None:
                found[name] = quote
        for item in node.items:
            name, sign, text = item.word().partition("=")
            if name.startswith(ANNOTATIONS) and sign:
                found[name] = Quote(text, item.spot)
    return found
