"""How the desk writes numbers."""

from __future__ import annotations

_SMALL = 1e-4


def figure(value: float, digits: int = 4) -> str:
    """A number for a table: `digits` significant ones, thousands separated, no exponent unless it must."""
    if value == 0:
        return "0"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.{digits}g}"
    if abs(value) < _SMALL:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{digits}g}" if "e" not in f"{value:.{digits}g}" else f"{value:.{digits}f}"
