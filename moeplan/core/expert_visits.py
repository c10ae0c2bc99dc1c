"""How many places a token's experts lie on: ranks or nodes, from the share of an expert's tokens that goes to each.

A token's k experts are drawn with odds w: a choice has the weight of its odds' product, and the weights of all choices are the
coefficient of z^k in the product of 1 + w z over experts. A place is missed by the choices that go elsewhere.
"""

import itertools
from collections.abc import Mapping, Sequence

SURE = 1 - 1e-6
"""Inclusion above which an expert counts as chosen by every token: odds stay finite, and so do products of fifty of them."""

Shares = Mapping[int, float]
"""Of one place: which part of an expert's tokens goes there; experts without a copy there are absent."""

Polynomial = list[float]
"""Coefficient of z^j at j: weight of all choices of j experts, each the product of its odds."""


def odds_of(inclusion: Sequence[float], chosen: int) -> list[float]:
    """p / (1 - p), and p itself for k = 1: draws with these odds, given that they are k, have about these inclusions."""
    shares = [min(share, SURE) for share in inclusion]
    if sum(share > 0 for share in shares) < chosen:
        raise ValueError(f"{chosen} experts per token, and fewer are ever chosen")
    return shares if chosen == 1 else [share / (1 - share) for share in shares]


def visited(shares: Sequence[Shares], odds: Sequence[float], chosen: int) -> float:
    """Sum over places of 1 - (weight of choices that go elsewhere) / (weight of all)."""
    whole = {expert: where for where, mine in enumerate(shares) for expert, part in mine.items() if part > SURE}
    split = [expert for expert in range(len(odds)) if expert not in whole]
    own = [_one(chosen) for _ in shares]
    for expert, where in whole.items():
        _times(own[where], odds[expert])
    before = [_one(chosen)]
    for one in own:
        before.append(_product(before[-1], one))
    everywhere = list(before[-1])
    for expert in split:
        _times(everywhere, odds[expert])
    behind = _one(chosen)
    found = 0.0
    for where in reversed(range(len(shares))):
        elsewhere = _product(before[where], behind)
        for expert in split:
            _times(elsewhere, odds[expert] * (1 - shares[where].get(expert, 0.0)))
        found += 1 - elsewhere[chosen] / everywhere[chosen]
        behind = _product(behind, own[where])
    return found


def visited_in_groups(
    shares: Sequence[Shares], odds: Sequence[float], chosen: int, num_groups: int, kept: int
) -> float:
    """As `visited`, over the choices that take experts of exactly `kept` groups.

    Their weight is the coefficient of y^kept z^chosen in the product over groups of 1 + y (group's polynomial in z - 1). Where
    counts are so few that no choice takes so many groups, all choices count.
    """
    size = len(odds) // num_groups
    groups = [_of_group(odds[first : first + size], chosen) for first in range(0, len(odds), size)]
    untouched: dict[frozenset[int], list[Polynomial]] = {}
    all_weight = _kept_product(groups, chosen, kept)[kept][chosen]
    if not all_weight > 0:
        return visited(shares, odds, chosen)
    found = 0.0
    for mine in shares:
        here = frozenset(expert // size for expert in mine)
        if here not in untouched:
            untouched[here] = _kept_product([one for at, one in enumerate(groups) if at not in here], chosen, kept)
        layers = untouched[here]
        for group in sorted(here):
            left = [odds[e] * (1 - mine.get(e, 0.0)) for e in range(group * size, (group + 1) * size)]
            layers = _with_group(layers, _of_group(left, chosen))
        found += 1 - layers[kept][chosen] / all_weight
    return found


def _of_group(odds: Sequence[float], chosen: int) -> Polynomial:
    """Choices of at least one of these experts."""
    found = _one(chosen)
    for odd in odds:
        _times(found, odd)
    found[0] = 0.0
    return found


def _kept_product(groups: Sequence[Polynomial], chosen: int, kept: int) -> list[Polynomial]:
    """By number of groups that give experts, from none to `kept`, the choices from `groups`."""
    layers = [_one(chosen)] + [[0.0] * (chosen + 1) for _ in range(kept)]
    for group in groups:
        layers = _with_group(layers, group)
    return layers


def _with_group(layers: Sequence[Polynomial], group: Polynomial) -> list[Polynomial]:
    found = [layers[0]]
    for fewer, same in itertools.pairwise(layers):
        found.append([one + other for one, other in zip(same, _product(fewer, group), strict=True)])
    return found


def _one(degree: int) -> Polynomial:
    return [1.0] + [0.0] * degree


def _times(polynomial: Polynomial, odd: float) -> None:
    """`polynomial` times 1 + odd z, in place, cut at its degree."""
    for power in range(len(polynomial) - 1, 0, -1):
        polynomial[power] += odd * polynomial[power - 1]


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    return [sum(left[power] * right[degree - power] for power in range(degree + 1)) for degree in range(len(left))]
