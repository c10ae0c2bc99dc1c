"""Configs that hold the text model's config inside, beside those of towers."""

from __future__ import annotations

from moeplan.core.model import Remark
from moeplan.sources.families.fields import Fields


def inner(fields: Fields, name: str = "text_config") -> Fields:
    """The nested object `name`; where it is absent, an empty one, so that the missing fields are all listed."""
    found = fields.sub(name)
    if found is None:
        fields.need(name)
        return Fields({}, where=fields.where, path=f"{fields.path}{name}.", parent=fields)
    return found


def tied(outer: Fields, text: Fields, default: bool) -> bool:
    """Whether embedding and head are one table: the wrapper decides (transformers 5.23.0 PreTrainedModel ties by the
    config of the outermost model), then the text model, then the wrapper class's `default`."""
    for fields in (outer, text):
        if fields.has("tie_word_embeddings"):
            return fields.flag("tie_word_embeddings", default)
    return outer.flag("tie_word_embeddings", default)


def left_out(fields: Fields, name: str, tower: str) -> tuple[Remark, ...]:
    """A remark where the config does not speak of a tower that models of the family have; a null says there is none."""
    if name in fields.values:
        return ()
    message = f"the config has no `{fields.path}{name}`: the {tower} is left out of every number"
    return (Remark("tower-left-out", "warning", message, f"{fields.path}{name}"),)
