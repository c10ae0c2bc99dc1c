"""Which layers see a window: `layer_types`, or the pattern that a family's config class puts in its place."""

from __future__ import annotations

from collections.abc import Callable

from moeplan.core.model import GroupedAttention
from moeplan.sources.families.fields import Fields

FULL = "full_attention"
SLIDING = "sliding_attention"
LINEAR = "linear_attention"


def layer_types(
    fields: Fields, num_layers: int, known: tuple[str, ...], otherwise: Callable[[int], str]
) -> tuple[str, ...]:
    """One of `known` per layer; `otherwise` gives the kind of layer `number` where the config lists none.

    Raises ConfigError for a list of another length or with an unknown kind.
    """
    stated = fields.strings("layer_types", num_layers)
    if stated is None:
        return tuple(otherwise(number) for number in range(num_layers))
    unknown = sorted(set(stated) - set(known))
    if unknown:
        raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are {' and '.join(known)}")
    return stated


def every(interval: int, kind: str, others: str) -> Callable[[int], str]:
    """`kind` in every `interval`-th layer (the last of each group), `others` in between."""
    return lambda number: others if (number + 1) % interval else kind


def window(fields: Fields, default: int | None) -> int | None:
    """`sliding_window` in tokens; a null is "no window", and only an absent field takes the class default."""
    if "sliding_window" in fields.values and fields.values["sliding_window"] is None:
        return None
    if default is None:
        return fields.optional("sliding_window", minimum=1)
    return fields.integer("sliding_window", default=default)


def windowed(attention: GroupedAttention, kinds: tuple[str, ...], tokens: int | None) -> tuple[GroupedAttention, ...]:
    """`attention` once per layer, with the window in the sliding ones."""
    return tuple(attention._replace(window_tokens=tokens if kind == SLIDING else None) for kind in kinds)


def need_kv_heads(fields: Fields) -> None:
    """Record `num_key_value_heads` as missing where it is absent: the class default is one model's number of heads.

    A null is no gap: config classes then give every head its own keys and values.
    """
    if "num_key_value_heads" not in fields.values:
        fields.need("num_key_value_heads")
