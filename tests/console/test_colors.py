"""The style sheet's colors: readable text, and areas that nobody confuses, whichever colors they see."""

from __future__ import annotations

import itertools
import re
from importlib import resources

import pytest

from sublet.console.chart import CLASS_STYLES

Color = tuple[float, float, float]

# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE TVCG 2009,
# severity 1.0, on linear RGB.
DEFICIENCIES = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
AREAS = ("c-own", *(f"c-{name}" for name in CLASS_STYLES), "c-model", "c-sale", "surface")
DISTANCE_MIN = 10.0
CONTRAST_MIN = 4.5


def themes() -> dict[str, dict[str, Color]]:
    sheet = resources.files("sublet.console").joinpath("static/console.css").read_text()
    light, dark = (
        {name: linear(value) for name, value in re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)}
        for block in re.findall(r":root \{(.*?)\n\s*\}", sheet, re.DOTALL)
    )
    return {"light": light, "dark": {**light, **dark}}


def linear(value: str) -> Color:
    parts = [int(value[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def luminance(color: Color) -> float:
    return 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2]


def lab(color: Color) -> Color:
    red, green, blue = (min(1.0, max(0.0, part)) for part in color)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *itertools.product(("ink", "quiet"), ("ground", "surface", "raised")),
        ("accent", "surface"),
        ("on-accent", "accent"),
        ("good", "good-ground"),
        ("busy", "busy-ground"),
        ("bad", "bad-ground"),
        ("busy", "surface"),
        ("bad", "surface"),
        ("accent", "info-ground"),
        ("ink", "info-ground"),
        ("ink", "busy-ground"),
        ("ink", "bad-ground"),
    ],
)
def test_text_has_enough_contrast(theme: str, text: str, ground: str) -> None:
    low, high = sorted(luminance(themes()[theme][name]) for name in (text, ground))
    assert (high + 0.05) / (low + 0.05) >= CONTRAST_MIN


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("mark", "ground"),
    [
        *itertools.product(("c-class-b", "c-busy", "c-bad"), ("surface", "raised")),
        *itertools.product(("edge", "quiet", "c-capacity", "accent"), ("surface", "ground")),
    ],
)
def test_what_is_drawn_stands_out(theme: str, mark: str, ground: str) -> None:
    """WCAG 2.2, 1.4.11: bars, lines, the edge of a field and the focus."""
    low, high = sorted(luminance(themes()[theme][name]) for name in (mark, ground))
    assert (high + 0.05) / (low + 0.05) >= 3


def test_nothing_moves_for_who_asked_for_stillness() -> None:
    sheet = resources.files("sublet.console").joinpath("static/console.css").read_text()
    moving = re.search(r"@media \(prefers-reduced-motion: no-preference\) \{\n(.*?)\n\}", sheet, re.DOTALL)
    assert moving is not None
    assert not re.findall(r"(?<!over)(?:transition|animation|scroll-behavior)", sheet.replace(moving[1], ""))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_areas_of_a_chart_are_told_apart(theme: str, deficiency: str) -> None:
    matrix = DEFICIENCIES[deficiency]
    seen = {}
    for name in AREAS:
        red, green, blue = themes()[theme][name]
        a, b, c = (row[0] * red + row[1] * green + row[2] * blue for row in matrix)
        seen[name] = lab((a, b, c))
    for one, other in itertools.combinations(AREAS, 2):
        distance = sum((p - q) ** 2 for p, q in zip(seen[one], seen[other], strict=True)) ** 0.5
        assert distance >= DISTANCE_MIN, f"{one} and {other}: {distance:.1f}"
