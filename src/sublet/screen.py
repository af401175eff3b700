"""Styled output: progress, trees, colors. Rich takes a quarter of a second to import, so commands import this where they use it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from sublet.values.text import visible


class Screen(Console):
    """Rich's console, for styled output: what the text in it would have the terminal do is spelled out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
