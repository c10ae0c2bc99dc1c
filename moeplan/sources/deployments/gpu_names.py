"""Which GPU a pod asks for: node labels, affinities, and the types of machines of clouds."""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.nodes import Node

INSTANCES: Mapping[str, tuple[str, int]] = {}
"""Machine types of clouds: the GPU inside, and how many."""


def gpu_of_pod(spec: Node) -> Quote | None:
    """From `nodeSelector` and required node affinities: `nvidia.com/gpu.product`, `cloud.google.com/gke-accelerator`,
    `node.kubernetes.io/instance-type`, ...; the text is what a hardware profile is found by. None where it is not said;
    several values leave it unresolved, with all of them in `unknown`.
    """
    raise NotImplementedError


def gpu_of_label(key: str, value: Quote) -> Quote | None:
    """The GPU that one node label names; None for labels about something else."""
    raise NotImplementedError
