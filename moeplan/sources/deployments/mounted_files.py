"""A file inside a container whose text stands in a ConfigMap of the same stream, or of a file beside it."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.deployed import FileRemark, Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.stream import Stream


def mounted_file(path: Quote, container: Node, pod: Node, stream: Stream) -> Quote | FileRemark | None:
    """The text behind a path of a container: by the volume mount with the longest path, its volume, and the ConfigMap.

    None where the path is no file of a ConfigMap (the image's own, a disk's); a remark where the ConfigMap, or the key in
    it, is in no text that is read with this one, or in several that differ.
    """
    mount = _mount(path, container)
    if mount is None:
        return None
    inside = path.text.removeprefix(mount.at("mountPath").word().rstrip("/")).lstrip("/")
    inside = mount.at("subPath").word() or inside
    volume = next((each for each in pod.at("volumes") if each.at("name").word() == mount.at("name").word()), None)
    if volume is None or not inside:
        return None
    missing: FileRemark | None = None
    for config_map in _config_maps(volume):
        name = config_map.at("name").word()
        key = _key(config_map, inside)
        known = stream.config_map(name)
        if known is not None and known.differs:
            return known.unclear(mount.at("mountPath").spot)
        text = known.text(key, mount.at("mountPath").spot) if known is not None else None
        if text is not None:
            return text
        if name:
            missing = _missing(path, name, key, known=known is not None)
    return missing


def _mount(path: Quote, container: Node) -> Node | None:
    """The volume mount that a path lies under; of several the one with the longest path."""
    mounts = [
        mount
        for mount in container.at("volumeMounts")
        if f"{path.text}/".startswith(f"{mount.at('mountPath').word().rstrip('/')}/")
    ]
    return max(mounts, key=lambda mount: len(mount.at("mountPath").word().rstrip("/")), default=None)


def _config_maps(volume: Node) -> Iterator[Node]:
    if volume.at("configMap").there:
        yield volume.at("configMap")
    for source in volume.at("projected", "sources"):
        if source.at("configMap").there:
            yield source.at("configMap")


def _key(config_map: Node, inside: str) -> str:
    """The key of a file: its name, unless `items` lay keys under other paths."""
    return next((item.at("key").word() for item in config_map.at("items") if item.at("path").word() == inside), inside)


def _missing(path: Quote, name: str, key: str, *, known: bool) -> FileRemark:
    told = f"the key {key} of ConfigMap {name}" if known else f"ConfigMap {name}"
    return FileRemark(
        "config-map-missing",
        f"{path.text} comes from {told}, which is not in this text or beside it: what the file sets is left out",
        path.spot,
        "check its folder, or the whole stream: kustomize build DIR | moeplan check -",
    )
