"""Ways out inside a refusal: other degrees, each held against all rules of the engine before it is named."""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, product
from typing import NamedTuple

from moeplan.core.deployment import Refusal, Serving, Value
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout, Layout
from moeplan.core.model import ModelSpec
from moeplan.core.own_words import said, switched

Change = Mapping[str, int | bool]
"""Fields of `AskedLayout` to state."""
Resolve = Callable[[ModelSpec, AskedLayout, int | None, Mapping[str, Value]], Layout]


class Problem(NamedTuple):
    """A rule of the engine that the layout breaks."""

    code: str
    told: str
    """The arithmetic, without a way out."""


class Ways(NamedTuple):
    """Changes that may help, nearest first."""

    sorts: tuple[Iterable[Change], ...] = ()
    """Of each sort the first that helps is named."""
    spare: Iterable[Change] = ()
    """Named only where none of these helps. Where they do not either, several degrees are changed at once."""


def refused(
    serving: Serving,
    problems: Callable[[Serving], list[Problem]],
    ways: Callable[[Problem, Layout], Ways | None],
    resolve: Resolve,
) -> list[Refusal]:
    """All that `problems` finds, each with the changes that take it away and bring no other.

    Changes that leave no problem at all are named, and others only where there is none. None that wants more GPUs than
    the layout has is named.
    """
    broken = problems(serving)
    if not broken:
        return []
    search = _Search(serving, problems, resolve, frozenset(problem.code for problem in broken))
    found = []
    for problem in broken:
        tried = ways(problem, serving.layout)
        named: list[str] = []
        if tried is not None:
            named = (
                search.named(problem.code, tried.sorts) or search.named(problem.code, (tried.spare,)) or search.whole()
            )
        first, *others = named or [""]
        way = "".join([f"; {first} does" if first else "", *(f", or {other}" for other in others)])
        found.append(Refusal(problem.code, problem.told + way))
    return found


class _Search:
    """Which codes are left under a change; layouts that were looked at are remembered."""

    def __init__(
        self, serving: Serving, problems: Callable[[Serving], list[Problem]], resolve: Resolve, now: frozenset[str]
    ) -> None:
        self.serving, self.problems, self.resolve, self.now = serving, problems, resolve, now
        self.known: dict[Layout, frozenset[str]] = {}
        self.plainest: list[str] | None = None

    def named(self, code: str, sorts: Iterable[Iterable[Change]]) -> list[str]:
        """The words of the first change of each sort that leaves nothing refused; of those that leave less, else."""
        clean, better = [], []
        for changes in sorts:
            less = None
            for change in changes:
                left = self._left(change)
                if left is not None and not left:
                    clean.append(self._said(change))
                    break
                if left is not None and code not in left and left <= self.now:
                    less = less or change
            else:
                better += [self._said(less)] if less else []
        return list(dict.fromkeys(clean or better))

    def whole(self) -> list[str]:
        """The words of the layout with most tensor-parallel ranks that is not refused, whatever else it changes."""
        if self.plainest is None:
            self.plainest = self._plainest()
        return self.plainest

    def _plainest(self) -> list[str]:
        now, plain = self.serving.layout, {"dcp": 1, "redundant_experts": 0}
        for pp, tp in product(sorted({now.pp, 1}, reverse=True), range(now.tp, 0, -1)):
            for dp, ep in product((now.dp, tp, 1), (now.ep, tp * now.dp, tp, 1)):
                change = {"tp": tp, "pp": pp, "dp": dp, "ep": ep, **plain}
                if self._left(change) == frozenset():
                    told = {name: value for name, value in change.items() if value != getattr(now, name)}
                    return [self._said({"tp": tp} | told)]
        return []

    def _said(self, change: Change) -> str:
        flags, layout = self.serving.deployment.flags, self.serving.layout
        return said(flags, switched(flags, change, spread=layout.ep > 1))

    def _left(self, change: Change) -> frozenset[str] | None:
        """Codes that are refused under a change; None where it is none, or takes more GPUs."""
        serving, layout = self.serving, self.serving.layout
        asked = stated_layout(layout)._replace(**change)  # type: ignore[arg-type]
        if asked.pp != layout.pp:
            asked = asked._replace(pp_layers=None)
        try:
            other = self.resolve(serving.spec, asked, None, serving.deployment.stated)
        except InputError:
            return None
        if other == layout or other.num_gpus > layout.num_gpus:
            return None
        if other not in self.known:
            deployment = serving.deployment._replace(layout=other)
            found = self.problems(serving._replace(deployment=deployment))
            self.known[other] = frozenset(problem.code for problem in found)
        return self.known[other]


def stated_layout(layout: Layout) -> AskedLayout:
    """A layout as if every degree had been stated."""
    return AskedLayout(
        tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep, dp_attention=layout.dp_attention or None, dcp=layout.dcp,
        redundant_experts=layout.redundant_experts, pp_layers=layout.pp_layers or None, num_nodes=layout.num_nodes,
    )  # fmt: skip


def nearest(value: int, most: int) -> Iterable[int]:
    """Whole numbers from 1: those below `value`, largest first, then those above it up to `most`."""
    return chain(range(value - 1, 0, -1), range(value + 1, most + 1))
