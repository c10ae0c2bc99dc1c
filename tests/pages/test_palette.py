"""Colours of pages: legible in both schemes, and apart for readers who see fewer of them."""

from __future__ import annotations

import itertools
import math

import pytest

from moeplan.report.pages.palette import DARK, KINDS, LIGHT, variables

SCHEMES = {"light": LIGHT, "dark": DARK}
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHT: dict[str, list[list[float]]] = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> list[float]:
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]


def contrast(one: str, other: str) -> float:
    """WCAG 2.1: (L1 + 0.05) / (L2 + 0.05) of relative luminances."""
    bright, dim = sorted(
        (0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in map(linear, (one, other))), reverse=True
    )
    return (bright + 0.05) / (dim + 0.05)


def seen(colour: str, sight: str) -> tuple[float, float, float]:
    """As Oklab (Ottosson 2020), in which distances are about what eyes tell apart."""
    values = linear(colour)
    red, green, blue = (max(0.0, sum(map(math.prod, zip(row, values, strict=True)))) for row in SIGHT[sight])
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_and_marks_stand_out(scheme: str) -> None:
    colours = SCHEMES[scheme]
    for ground in ("page", "panel"):
        for words in ("ink", "quiet", "link", "good", "bad", "open"):
            assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)
        for mark in KINDS:
            assert contrast(colours[mark], colours[ground]) >= 3, (mark, ground)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_kinds_stay_apart_for_every_sight(scheme: str, sight: str) -> None:
    kinds = [seen(SCHEMES[scheme][name], sight) for name in KINDS]
    nearest = min(math.dist(one, other) for one, other in itertools.combinations(kinds, 2))
    # About ten times what the eye just tells apart (0.01).
    assert nearest > 0.1


def test_both_schemes_name_the_same_colours_and_css_has_all() -> None:
    assert list(LIGHT) == list(DARK)
    style = variables()
    for name in LIGHT:
        assert style.count(f"--{name}:{LIGHT[name]}") == 2  # on the screen, and on paper
        assert style.count(f"--{name}:{DARK[name]}") == 2  # as the system prefers, and as the reader chose
