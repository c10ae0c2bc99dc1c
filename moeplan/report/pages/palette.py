"""Colours of pages and their charts, in a light and a dark scheme, by the names of CSS variables.

`c1` to `c7` tell kinds apart. They were searched for: each has a contrast of 3 and more to both backgrounds of its scheme (WCAG
2.1, 1.4.11), and any two stay apart for readers who lack one of the three cones, as Machado, Oliveira and Fernandes (2009)
simulate them; tests/pages/test_palette.py holds both. No colour says anything that words do not say too.
"""

from __future__ import annotations

LIGHT = {
    "page": "#ffffff", "panel": "#f6f7f9", "ink": "#1b1f24", "quiet": "#57606a", "line": "#d5dae0", "link": "#0a53a8",
    "good": "#1a6e35", "bad": "#b3261e", "open": "#7d5200", "grid": "#dfe3e8", "free": "#e4e8ed",
    "c1": "#12379b", "c2": "#da7212", "c3": "#1c9d8c", "c4": "#780839", "c5": "#6d5f07", "c6": "#206c8f", "c7": "#a566da",
}  # fmt: skip
DARK = {
    "page": "#0f1317", "panel": "#171c22", "ink": "#e6e9ed", "quiet": "#a3acb6", "line": "#323a43", "link": "#8cc2ff",
    "good": "#57d27c", "bad": "#ff8f85", "open": "#e8b84a", "grid": "#2a3139", "free": "#2c343d",
    "c1": "#5a81c9", "c2": "#dc8427", "c3": "#57c397", "c4": "#ad727f", "c5": "#eecb51", "c6": "#98dbf4", "c7": "#afa1e6",
}  # fmt: skip
KINDS = tuple(f"c{number}" for number in range(1, 8))
"""The colours that tell kinds apart, in the order in which charts take them."""


def variables() -> str:
    """Both schemes as CSS: the reader's own choice, the system's, and light on paper."""
    light, dark = (";".join(f"--{name}:{value}" for name, value in scheme.items()) for scheme in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
        f"@media print{{:root,:root:not([data-theme=light]),:root[data-theme=dark]{{color-scheme:light;{light}}}}}\n"
    )
