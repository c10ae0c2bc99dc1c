"""ConfigMaps: what they hold, and what is to be known of one that stands in another file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import FileRemark, PutIn, Quote, Spot
from moeplan.sources.deployments.nodes import Node


class ConfigMap(NamedTuple):
    """One ConfigMap."""

    name: str
    texts: Mapping[str, Quote]
    """By key."""
    files: tuple[str, ...] = ()
    """Other files that hold it, by name; empty for one of the same text."""
    differs: bool = False
    """True where these files say different things: nobody knows which of them counts."""

    @property
    def why(self) -> str:
        """How a text of it was found."""
        return f"ConfigMap {self.name}{f' in {self.files[0]}' if self.files else ''}"

    def text(self, key: str, reference: Spot) -> Quote | None:
        """The text of a key; one of another file stands where it is referred to."""
        found = self.texts.get(key)
        if found is None or not self.files:
            return found if found is None else found._replace(why=self.why)
        return elsewhere(found.text, reference, self.why)

    def unclear(self, reference: Spot) -> FileRemark:
        """That the files differ."""
        told = (
            f"ConfigMap {self.name} stands in {' and in '.join(self.files)}, and they differ: what it sets is left open"
        )
        hint = "check the rendered stream: kustomize build DIR | moeplan check -"
        return FileRemark("config-map-unclear", told, reference, hint)


def elsewhere(text: str, reference: Spot, why: str) -> Quote:
    """A text of another file: all of it stands at its reference."""
    return Quote(text, reference, why=why, put_in=(PutIn(0, len(text), 0, 1),))


def config_maps_of(objects: Iterable[Node]) -> dict[str, dict[str, Quote]]:
    """Texts of the ConfigMaps among these objects, by name and key."""
    found: dict[str, dict[str, Quote]] = {}
    for each in objects:
        if each.at("kind").word() == "ConfigMap":
            texts = {
                key: Quote(node.text, node.spot) for key, node in each.at("data").entries.items() if node.is_scalar
            }
            found.setdefault(each.at("metadata", "name").word(), {}).update(texts)
    return found


def one_of(found: Sequence[ConfigMap]) -> ConfigMap | None:
    """The ConfigMap of several files; None for none."""
    if not found:
        return None
    texts = [{key: quote.text for key, quote in each.texts.items()} for each in found]
    if all(each == texts[0] for each in texts):
        return found[0]
    return ConfigMap(found[0].name, {}, tuple(name for each in found for name in each.files), differs=True)
