"""MODEL as the user writes it -> a model that the arithmetic understands.

In this order: a path that exists; `hf://…`, a Hub URL or `org/name@revision` (the Hub); a catalogue name, also when it
looks like an id, unless a revision, a file or its headers are asked for; else the Hub.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from moeplan.core.errors import ConfigError, InputError, MoeplanError
from moeplan.core.model import Remark
from moeplan.sources.hub.address import HUB_ID, hub_address, hub_reference, no_repository
from moeplan.sources.loaded import AS_IT_COMES, Asked, LoadedModel, loaded_model
from moeplan.sources.local_models import exists, from_path, named_file

if TYPE_CHECKING:  # the catalogue is read when a name is asked for
    from moeplan.sources.catalogue import Entry


def find_model(text: str, asked: Asked = AS_IT_COMES) -> LoadedModel:
    """Read the model that `text` names.

    Raises InputError for names and files that are wrong, ConfigError for configs that do not determine the
    answer, UnknownError when the Hub would have to be asked and cannot be.
    """
    text = text.strip()
    if not text:
        raise InputError(
            "MODEL is empty", hint="give a folder, a config.json, an org/name or a name from `moeplan models`"
        )
    path = Path(text).expanduser()
    if asked.paths and exists(path):
        return from_path(named_file(path, asked, text), text)
    address = hub_address(text)
    if address is not None:
        name, tag, file = hub_reference(address, text)
        return _from_hub(name, _narrowed(asked, tag, file, text), text)
    if "://" in text:
        no_repository(text)
    name, at, tag = text.partition("@")
    if at and HUB_ID.match(name):
        return _from_hub(name, _narrowed(asked, tag, None, text), text)
    if not _looks_like_path(text):
        from moeplan.sources.catalogue import find_entry

        entry = find_entry(text, asked.profile_folders)
        if entry is not None and (asked.headers or asked.revision is not None or asked.file is not None):
            return _from_hub(entry.id, asked, text)
        if entry is not None:
            return _from_catalogue(entry)
    if _looks_like_path(text):
        raise InputError(f"{text}: no such file or folder", hint="check the path, or give a name from `moeplan models`")
    if HUB_ID.match(text):
        try:
            return _from_hub(text, asked, text)
        except ConfigError:  # it is there
            raise
        except MoeplanError as error:
            _add_near_ids(error, text, asked)
            raise
    from moeplan.sources.catalogue import near_names

    near = near_names(text, asked.profile_folders)
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise InputError(
        f"{text!r} is no file, no Hub id and no model of the catalogue",
        hint=f"{meant}`moeplan models` lists the catalogue",
    )


def _add_near_ids(error: MoeplanError, text: str, asked: Asked) -> None:
    """To the way out of an id that could not be read: models of the catalogue that may be meant."""
    from moeplan.sources.catalogue import near_ids

    near = near_ids(text, asked.profile_folders)
    if near:
        error.hint = f"did you mean {' or '.join(near)}? {error.hint}"


def _from_catalogue(entry: "Entry") -> LoadedModel:
    convention = entry.card.convention if entry.card else None
    where = f"catalogue entry {entry.id}"
    remarks = entry.remarks
    if HUB_ID.match(entry.id):
        message = (
            "weights are derived from the config; --headers reads the checkpoint's headers on the Hub for exact ones"
        )
        remarks += (Remark("headers-not-asked", "info", message),)
    loaded = loaded_model(entry.id, None, entry.source, "catalogue", entry.config, entry.sidecar, where, remarks)
    return loaded._replace(spec=loaded.spec._replace(card_convention=convention)) if convention else loaded


def _from_hub(name: str, asked: Asked, typed: str) -> LoadedModel:
    # The Hub's modules are loaded when it is asked.
    from moeplan.sources.hub.model import from_hub

    return from_hub(name, asked, typed)


def _narrowed(asked: Asked, revision: str | None, file: str | None, typed: str) -> Asked:
    """What is asked with what MODEL says itself. Raises InputError where both say it, and not the same."""
    for option, stated, given in (("--revision", revision, asked.revision), ("--file", file, asked.file)):
        if stated is not None and given is not None and stated != given:
            raise InputError(f"{typed} names {stated!r}, and {option} names {given!r}", hint="leave out one of them")
    return asked._replace(
        revision=asked.revision if revision is None else revision, file=asked.file if file is None else file
    )


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith((".json", ".gguf")) or "\\" in text or text.count("/") > 1
