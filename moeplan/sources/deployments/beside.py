"""Files beside the one that is read: in its own folder, never in another one, whatever a file says."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.config_maps import ConfigMap, config_maps_of
from moeplan.sources.deployments.files import STDIN, FoundFile, read_text
from moeplan.sources.deployments.nodes import compose
from moeplan.sources.deployments.object_lists import listed_objects

MOST_BYTES = 256 * 1024
"""Of a file that another one names."""
_PLAIN_NAME = re.compile(r"(?:\./)*([^/\\:\0]+)")
_ENV_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_QUOTED = re.compile(r"""(["'])(.*?)\1(?:\s+#.*)?""")


class Beside:
    """A folder with the files of it that are read together."""

    def __init__(self, folder: str | None, together: Sequence[FoundFile] = ()) -> None:
        self.folder = folder
        """As the system opens it; None for a text without one."""
        self.together = together
        self._config_maps: Mapping[str, Sequence[tuple[str, Mapping[str, Quote]]]] | None = None

    def text(self, name: str) -> str | None:
        """The beginning of a file that is named by a plain name; None for one that lies elsewhere, and for what is no file.

        Links are followed inside of the folder alone.
        """
        plain = _PLAIN_NAME.fullmatch(name)
        if self.folder is None or plain is None or plain.group(1) in (".", ".."):
            return None
        place = os.path.realpath(os.path.join(self.folder, plain.group(1)))
        try:
            if os.path.dirname(place) != os.path.realpath(self.folder) or not stat.S_ISREG(os.stat(place).st_mode):
                return None
            with open(place, encoding="utf-8", errors="replace") as file:
                return file.read(MOST_BYTES)
        except OSError:
            return None

    def variables(self, name: str) -> dict[str, str] | None:
        """What a file of variables sets; None where there is no such file here."""
        text = self.text(name)
        if text is None:
            return None
        found: dict[str, str] = {}
        for line in text.splitlines():
            setting = _ENV_LINE.fullmatch(line)
            if setting is not None:
                key, value = setting.groups()
                quoted = _QUOTED.fullmatch(value)
                found[key] = quoted.group(2) if quoted else re.split(r"\s+#", value, maxsplit=1)[0]
        return found

    def config_maps(self, name: str, path: str) -> tuple[ConfigMap, ...]:
        """ConfigMaps of one name in the files that are read together, the one at `path` left out."""
        if self._config_maps is None:
            self._config_maps = self._read_config_maps()
        return tuple(
            ConfigMap(name, texts, (other.rpartition("/")[2],))
            for other, texts in self._config_maps.get(name, ())
            if other != path
        )

    def _read_config_maps(self) -> dict[str, list[tuple[str, Mapping[str, Quote]]]]:
        found: dict[str, list[tuple[str, Mapping[str, Quote]]]] = {}
        for file in self.together:
            text = read_text(file).text if file.path.lower().endswith((".yaml", ".yml", ".json")) else None
            if text is None or "ConfigMap" not in text:
                continue
            objects = (each for document in compose(text).documents for each in listed_objects(document))
            for name, texts in config_maps_of(objects).items():
                found.setdefault(name, []).append((file.path, texts))
        return found


NOTHING_BESIDE = Beside(None)


class Folders:
    """The folders of files that are read together."""

    def __init__(self, files: Sequence[FoundFile]) -> None:
        self.files: dict[str, list[FoundFile]] = {}
        for file in files:
            if file.path != STDIN:
                self.files.setdefault(_folder(file), []).append(file)
        self.made: dict[str, Beside] = {}

    def of(self, file: FoundFile) -> Beside:
        """The folder that a file lies in."""
        if file.path == STDIN:
            return NOTHING_BESIDE
        folder = _folder(file)
        if folder not in self.made:
            self.made[folder] = Beside(folder, self.files.get(folder, ()))
        return self.made[folder]


def _folder(file: FoundFile) -> str:
    return os.path.dirname(os.path.abspath(file.place))
