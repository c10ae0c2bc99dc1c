"""A model as a deployment states it: at its revision, else as the catalogue knows it; a GGUF file by its quantisation."""

from __future__ import annotations

import os
from pathlib import Path

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.model import Remark
from moeplan.sources.hub.address import HUB_ID
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.local_models import exists, from_path
from moeplan.sources.models import find_model


def at_revision(text: str, asked: Asked, folder: Path | None = None) -> LoadedModel:
    """The model at the stated revision; where that cannot be read, the catalogue's facts of it, with a note.

    `org/name:QUANT`, as llama.cpp and Ollama name a file of a repository, is the GGUF file of that quantisation. A path is
    looked for in `folder` alone: what a file of deployments calls a path lies in a container. Raises the errors of
    `find_model` for a model that is in none of these places.
    """
    asked = asked._replace(paths=False)
    if folder is not None and exists(path := folder / Path(text).expanduser()):
        loaded = from_path(Path(os.path.relpath(path)), text)
        # The same from wherever it is read.
        return loaded._replace(source=text)
    if folder is None and text.startswith((".", "/", "~")):
        raise InputError(
            f"{text} is a path, and no path is looked for on this machine but one of the policy's",
            hint=f"map it in the policy (models: {{{text}: org/name}})",
        )
    name, sign, quant = text.partition(":")
    if sign and HUB_ID.match(name):
        return find_model(name, asked._replace(file=_gguf_file(name, quant, asked)))
    if asked.revision is None:
        return find_model(text, asked)
    try:
        return find_model(text, asked)
    except UnknownError:
        from moeplan.sources.catalogue import find_entry

        if find_entry(text, asked.profile_folders) is None:
            raise
        loaded = find_model(text, asked._replace(revision=None))
        told = f"revision {asked.revision[:12]} of {loaded.id} was not read; figures are by the catalogue's facts of it"
        return loaded._replace(
            revision=asked.revision, remarks=(*loaded.remarks, Remark("revision-not-read", "warning", told))
        )


def _gguf_file(name: str, quant: str, asked: Asked) -> str:
    """The file of a repository whose name ends in a quantisation, in any case of letters."""
    from moeplan.sources.hub.config import find_repository
    from moeplan.sources.hub.gguf import gguf_files, gguf_list

    models = gguf_files(find_repository(name, asked.revision, offline=asked.offline).files)
    wanted = quant.upper()
    meant = [each for each in models if each.quant == wanted] or [
        each for each in models if wanted in each.file.upper()
    ]
    if not meant:
        raise InputError(f"{name} holds no GGUF file in {quant}", hint=f"it holds {gguf_list(models)}")
    return meant[0].file
