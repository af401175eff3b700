"""The names that the settings say several models serve, as models know them."""

from __future__ import annotations

from sublet.config.settings import Settings
from sublet.models.routes.model import SETTINGS, Route, Upstream


def stated_routes(settings: Settings) -> list[Route]:
    """The names that the settings say several models serve."""
    return [
        Route(
            route.name,
            tuple(Upstream(to.model, to.weight, to.priority) for to in route.upstreams),
            route.spill,
            route.affinity,
            SETTINGS,
        )
        for route in settings.gateway.routes
    ]
