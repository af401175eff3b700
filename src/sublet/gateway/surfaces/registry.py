"""The surfaces that the gateway serves. A new one is one file beside this one, and one line here.

How to add one, and the suite that it has to pass: docs/add-a-surface.md.
"""

from __future__ import annotations

from sublet.gateway.surfaces.anthropic import AnthropicSurface
from sublet.gateway.surfaces.bedrock import BedrockSurface
from sublet.gateway.surfaces.gemini import GeminiSurface
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.gateway.surfaces.responses import ResponsesSurface
from sublet.gateway.surfaces.surface import Surface

SURFACES: tuple[Surface, ...] = (
    OpenAISurface(),
    ResponsesSurface(),
    AnthropicSurface(),
    GeminiSurface(),
    BedrockSurface(),
)
"""In the form of the first one are errors where it is not known yet what is asked. No two may have the same path."""
