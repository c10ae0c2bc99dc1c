"""A model as a deployment states it: at its revision, else as the catalogue knows it."""

from __future__ import annotations

from moeplan.core.errors import UnknownError
from moeplan.core.model import Remark
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model


def at_revision(text: str, asked: Asked) -> LoadedModel:
    """The model at the stated revision; where that cannot be read, the catalogue's facts of it, with a note.

    Raises the errors of `find_model` for a model that is in neither.
    """
    if asked.revision is None:
        return find_model(text, asked)
    try:
        return find_model(text, asked)
    except UnknownError as error:
        from moeplan.sources.catalogue import find_entry

        if find_entry(text, asked.profile_folders) is None:
            raise
        loaded = find_model(text, asked._replace(revision=None))
        told = (
            f"revision {asked.revision} of {loaded.id} was not read ({error.message}); these are the catalogue's facts"
        )
        return loaded._replace(
            revision=asked.revision, remarks=(*loaded.remarks, Remark("revision-not-read", "warning", told))
        )
