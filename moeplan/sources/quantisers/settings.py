"""Settings that several quantisers write alike: lists of names, group and block sizes, the cache's dtype."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from moeplan.core.model import Remark
from moeplan.core.quant import Rule, WeightFormat
from moeplan.sources.families.fields import Fields


class Around(NamedTuple):
    """What a reader may need beside its own object."""

    config: Mapping[str, Any]
    base: WeightFormat
    """The model's own dtype."""


def stated_names(fields: Fields, *keys: str) -> tuple[str, ...] | None:
    """The list at the first of `keys` that is there; None where none is."""
    for key in keys:
        if (found := fields.strings(key)) is not None:
            return found
    return None


def each(fields: Fields, key: str) -> Iterator[tuple[str, Fields]]:
    """The objects in the object at `key`, by name."""
    outer = fields.sub(key)
    for name in outer.values if outer else ():
        inner = outer.sub(str(name)) if outer else None
        if inner is not None:
            yield str(name), inner


def stated_group_size(fields: Fields, *keys: str) -> int:
    """Elements per group; -1, as the files have it, for one group per row."""
    found = fields.first(*keys)
    if found is not None and found[1] == -1:
        return -1
    return fields.integer(*keys, default=128)


def own_group_size(settings: Fields, outer: int) -> int:
    """The group size of one module's own settings, or that of all."""
    return stated_group_size(settings, "group_size") if settings.has("group_size") else outer


def stated_block(fields: Fields, key: str) -> tuple[int, int] | None:
    """Rows and columns of a block, or None; ConfigError where either is below one."""
    sizes = fields.integers(key, 2)
    if sizes is None:
        return None
    if min(sizes) < 1:
        raise fields.wrong(key, f"is {list(sizes)}; blocks have at least one row and column")
    return sizes[0], sizes[1]


def stated_kv_cache(fields: Fields) -> str | None:
    """The cache dtype of `kv_cache_scheme` or `kv_cache_quant_algo`, or None where it says nothing."""
    algorithm = fields.text("kv_cache_quant_algo")
    if algorithm:
        return algorithm.lower()
    scheme = fields.sub("kv_cache_scheme")
    if scheme is None:
        return None
    bits, kind = scheme.integer("num_bits", default=8), scheme.text("type") or "float"
    return {"float": {8: "fp8", 4: "nvfp4"}, "int": {8: "int8"}}.get(kind, {}).get(bits, f"{kind}{bits}")


def by_convention(fields: Fields, key: str) -> Remark:
    """The remark that the list `key` is missing and what is assumed instead."""
    return Remark(
        "exclusions-by-convention",
        "info",
        f"no `{key}`: router, embedding, head and norms are taken as not quantised, as DeepSeek-V3 stores them",
        f"{fields.path}{key}",
    )


def approximate(quantiser: str, why: str) -> Remark:
    """The remark that sizes of this quantiser's files are near, not exact."""
    return Remark("format-approximate", "warning", f"sizes of {quantiser} weights are approximate: {why}")


def names_of(rules: Iterable[Rule]) -> str:
    """The formats of the rules about matrices, by name."""
    return ", ".join(dict.fromkeys(rule.format.name for rule in rules if rule.linear_only))
