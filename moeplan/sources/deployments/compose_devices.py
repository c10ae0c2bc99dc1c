"""The GPUs that a compose service asks for: how many, and which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.variables import expand_compose
from moeplan.sources.deployments.words import listed

_DRIVERS = ("nvidia", "amd", "cdi")
CDI: Mapping[str, str] = {"nvidia": "nvidia.com/gpu=", "amd": "amd.com/gpu="}
"""Names of devices by vendor, which the container device interface hands in."""
_ALL = ("all", "-1")


class Devices(NamedTuple):
    """Cards of a service."""

    num_gpus: Quote | None = None
    """None where all of the machine are taken, or none are asked for."""
    ids: tuple[str, ...] = ()
    """Empty where the file does not pick."""

    def narrowed(self, visible: tuple[str, ...]) -> Devices:
        """What an engine sees behind `CUDA_VISIBLE_DEVICES`: places among the container's own cards."""
        if not visible:
            return self
        places = [int(each) for each in visible if each.isdecimal()]
        if self.ids and len(places) == len(visible):
            ids = tuple(self.ids[place] for place in places if place < len(self.ids))
        else:
            ids = visible
        spot = self.num_gpus.spot if self.num_gpus is not None else None
        number = None
        if spot is not None:
            number = Quote(str(len(ids)), spot, "inferred", why="CUDA_VISIBLE_DEVICES")
        return Devices(number, ids)


def devices_of(service: Node, variables: Mapping[str, Quote], outer: Mapping[str, Quote]) -> Devices:
    """From `deploy.resources.reservations.devices`, `gpus`, CDI `devices` and the variables that pick cards.

    `outer` are the variables of compose itself.
    """
    asked = list(_requests(service, outer))
    found = _joined(asked) if asked else _by_variable("NVIDIA_VISIBLE_DEVICES", variables)
    visible = _by_variable("CUDA_VISIBLE_DEVICES", variables)
    if not visible.ids:
        return found
    if found.num_gpus is None:
        return visible
    return found.narrowed(visible.ids)


class _Request(NamedTuple):
    number: Quote | None
    """None for all."""
    ids: tuple[Quote, ...] = ()


def _requests(service: Node, outer: Mapping[str, Quote]) -> Iterator[_Request]:
    for device in service.at("deploy", "resources", "reservations", "devices"):
        capable = "gpu" in [quote.text for quote in listed(device.at("capabilities"))]
        if capable or device.at("driver").word() in _DRIVERS:
            yield _request(device, outer)
    gpus = service.at("gpus")
    if gpus.is_scalar:
        yield _Request(None)
    for device in gpus:
        yield _request(device, outer)
    picked = [quote for quote in listed(service.at("devices")) if quote.text.startswith(tuple(CDI.values()))]
    ids = tuple(quote._replace(text=quote.text.partition("=")[2]) for quote in picked)
    if ids:
        yield _Request(None) if any(each.text in _ALL for each in ids) else _Request(None, ids)


def _request(device: Node, outer: Mapping[str, Quote]) -> _Request:
    ids = tuple(
        quote._replace(text=text.strip().rpartition("=")[2])
        for quote in listed(device.at("device_ids"))
        for text in expand_compose(quote, outer).text.split(",")
        if text.strip()
    )
    if ids:
        return _Request(None) if any(each.text in _ALL for each in ids) else _Request(None, ids)
    count = device.at("count").quote()
    if count is not None:
        count = expand_compose(count, outer)
    return _Request(None if count is None or count.text in _ALL else count)


def _joined(asked: list[_Request]) -> Devices:
    """All requests together; one for all cards leaves the number open."""
    ids = tuple(quote for request in asked for quote in request.ids)
    counts = [request.number for request in asked if request.number is not None]
    if any(request.number is None and not request.ids for request in asked):
        return Devices()
    if ids and not counts:
        return Devices(
            Quote(str(len(ids)), ids[0].spot, "inferred", why="device_ids"), tuple(each.text for each in ids)
        )
    if len(counts) == 1 and not ids:
        number = counts[0].whole_number()
        return Devices(counts[0], tuple(map(str, range(min(number or 0, 1024)))))
    numbers = [count.whole_number() or 0 for count in counts]
    return Devices(Quote(str(sum(numbers) + len(ids)), counts[0].spot, "inferred", why="several requests"))


def _by_variable(name: str, variables: Mapping[str, Quote]) -> Devices:
    value = variables.get(name)
    if value is None or not value.known:
        return Devices()
    ids = tuple(each.strip() for each in value.text.split(",") if each.strip())
    if not ids or ids[0] in (*_ALL, "none", "void"):
        return Devices()
    return Devices(Quote(str(len(ids)), value.spot, "inferred", why=name), ids)
