"""Layout and cards of an llm-d role: what the modelservice chart makes of `parallelism` and `acceleratorTypes`.

Source: llm-d-incubation/llm-d-modelservice charts/llm-d-modelservice/templates/_helpers.tpl.
"""

from __future__ import annotations

from typing import NamedTuple

from moeplan.core.deployed import Gang, Quote
from moeplan.sources.deployments.gpu_names import gpu_of_label, gpu_of_pod
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.words import listed


class Spread(NamedTuple):
    """`parallelism` as the chart completes it."""

    tensor: Quote
    data: Quote
    data_local: Quote
    workers: Quote
    refused: str = ""
    """Why the chart refuses to render, where it does."""

    @property
    def gpus_per_pod(self) -> Quote | None:
        """tensor x dataLocal."""
        tensor, local = self.tensor.whole_number(), self.data_local.whole_number()
        if tensor is None or local is None:
            return None
        why = f"tensor {tensor} x dataLocal {local}"
        return Quote(str(tensor * local), self.tensor.spot, "inferred", why=why)


def spread_of(node: Node) -> Spread:
    """The four degrees; those that are not stated follow from the others as the chart's helpers have it."""
    tensor, data, local, workers = (node.at(key).quote() for key in ("tensor", "data", "dataLocal", "workers"))
    numbers = [quote.whole_number() if quote is not None else None for quote in (data, local, workers)]
    num_data, num_local, num_workers = numbers
    refused = ""
    if local is None and num_data and num_workers:
        if num_data % num_workers:
            refused = f"parallelism.data is {num_data}, no multiple of workers, {num_workers}"
        local = _inferred(node, num_data // num_workers, "data / workers")
    if workers is None and num_data and num_local:
        if num_data % num_local:
            refused = f"parallelism.data is {num_data}, no multiple of dataLocal, {num_local}"
        workers = _inferred(node, num_data // num_local, "data / dataLocal")
    if local is None:
        local = data
    if data is None and num_local:
        data = _inferred(node, num_local * (num_workers or 1), "dataLocal x workers")
    one = Quote("1", node.spot, "default")
    return Spread(tensor or one, data or one, local or one, workers or one, refused)


def _inferred(node: Node, number: int, why: str) -> Quote:
    return Quote(str(number), node.spot, "inferred", why=why)


def built_in(spread: Spread, gang: Gang) -> dict[str, Quote]:
    """Variables that the chart and a LeaderWorkerSet set."""
    found = {"TP_SIZE": spread.tensor, "DP_SIZE": spread.data, "DP_SIZE_LOCAL": spread.data_local}
    if gang.pods_per_engine is not None:
        found["LWS_GROUP_SIZE"] = gang.pods_per_engine
        found["LWS_WORKER_INDEX"] = Quote("0", gang.pods_per_engine.spot, "default", why="the leader")
    return found


def gpu_of_role(node: Node) -> Quote | None:
    """By `acceleratorTypes`, else by node selector and affinity of the role or of its `extraConfig`."""
    for key in ("acceleratorTypes", "acceleratorType"):
        types = node.at(key)
        values = [quote for quote in listed(types.first("labelValues", "labelValue")) if quote.text.strip()]
        names = [gpu_of_label(types.at("labelKey").word(), value) for value in values if value.text != "auto"]
        found = [name for name in names if name is not None]
        if len(found) == 1:
            return found[0]
        if found:
            texts = tuple(name.text for name in found)
            return Quote(", ".join(texts), found[0].spot, "unresolved", texts)
    return gpu_of_pod(node) or gpu_of_pod(node.at("extraConfig"))
