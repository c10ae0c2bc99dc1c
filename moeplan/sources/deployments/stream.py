"""What the documents of one text know of each other: objects, ConfigMaps, variables and files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, PlainSecret, Quote
from moeplan.sources.deployments.beside import NOTHING_BESIDE, Beside
from moeplan.sources.deployments.config_maps import ConfigMap, config_maps_of, one_of
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.object_lists import listed_objects, object_name

_SCALERS = ("HorizontalPodAutoscaler", "PodAutoscaler", "ScaledObject")


class Stream:
    """The surroundings of a document. What is looked for by name is sorted once, however many documents ask."""

    def __init__(
        self,
        path: str,
        documents: Sequence[Node],
        variables: Mapping[str, Quote] | None = None,
        beside: Beside = NOTHING_BESIDE,
    ) -> None:
        self.path = path
        """The file's name as it is shown."""
        self.documents = tuple(documents)
        self.variables: Mapping[str, Quote] = variables or {}
        """Variables from outside: `.env` beside a compose file, the policy."""
        self.beside = beside

    @property
    def stem(self) -> str:
        """The file's name without its ending: what a deployment is called where the file has no name for it."""
        name = self.path.rpartition("/")[2]
        return name.rpartition(".")[0] or name

    @cached_property
    def objects(self) -> Mapping[str, Sequence[Node]]:
        """All objects by kind; those of lists one by one."""
        found: dict[str, list[Node]] = {}
        for document in self.documents:
            for each in listed_objects(document):
                found.setdefault(each.at("kind").word(), []).append(each)
        return found

    @cached_property
    def named_objects(self) -> Mapping[tuple[str, str], Node]:
        """The first object of each kind and name."""
        found: dict[tuple[str, str], Node] = {}
        for kind, objects in self.objects.items():
            for each in objects:
                found.setdefault((kind, object_name(each)), each)
        return found

    @cached_property
    def scalers(self) -> Mapping[tuple[str, str], Node]:
        """The autoscaler of each object, by the object's kind and name."""
        found: dict[tuple[str, str], Node] = {}
        for each in (each for kind in _SCALERS for each in self.objects.get(kind, ())):
            target = each.at("spec", "scaleTargetRef")
            found.setdefault((target.at("kind").word() or "Deployment", target.at("name").word()), each)
        return found

    @cached_property
    def config_maps(self) -> Mapping[str, Mapping[str, Quote]]:
        """Texts of the ConfigMaps of this text, by name and key."""
        return config_maps_of(self.objects.get("ConfigMap", ()))

    def config_map(self, name: str) -> ConfigMap | None:
        """A ConfigMap: of this text, else of the files beside it that are read with it; None where there is none."""
        own = self.config_maps.get(name)
        if own is not None:
            return ConfigMap(name, own)
        return one_of(self.beside.config_maps(name, self.path)) if name else None


class Found(NamedTuple):
    """What a reader found in one document."""

    deployments: tuple[Deployed, ...] = ()
    remarks: tuple[FileRemark, ...] = ()
    secrets: tuple[PlainSecret, ...] = ()
    passed_over: tuple[str, ...] = ()
