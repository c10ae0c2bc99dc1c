"""What the documents of one text know of each other: ConfigMaps, base configurations, variables of a file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, PlainSecret, Quote
from moeplan.sources.deployments.nodes import Node


class Stream(NamedTuple):
    """The surroundings of a document."""

    path: str
    """The file's name as it is shown."""
    documents: tuple[Node, ...]
    config_maps: Mapping[str, Mapping[str, Quote]] = {}
    """Texts of ConfigMaps, by name and key."""
    variables: Mapping[str, Quote] = {}
    """Variables from outside: `.env` beside a compose file, the policy."""

    @property
    def stem(self) -> str:
        """The file's name without its ending: what a deployment is called where the file has no name for it."""
        name = self.path.rpartition("/")[2]
        return name.rpartition(".")[0] or name


class Found(NamedTuple):
    """What a reader found in one document."""

    deployments: tuple[Deployed, ...] = ()
    remarks: tuple[FileRemark, ...] = ()
    secrets: tuple[PlainSecret, ...] = ()
    passed_over: tuple[str, ...] = ()
