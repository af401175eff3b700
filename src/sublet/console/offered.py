"""What may be called: the models that the visitor may call, with prices and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sublet.console.page import Drawn, Screen, Visit
from sublet.store.paging import PageRequest, page_of

MODELS = "/models"
SHOWN_MAX = 50

Offered = Callable[[Visit], Sequence[dict[str, Any]]]
"""The models that the visitor may call, as the API shows them."""


def offered_screen(offered: Offered) -> Screen:
    """`/models`, for who may call the model API."""

    def show(visit: Visit) -> Drawn:
        wanted = PageRequest(SHOWN_MAX, visit.query.get("after"))
        page = page_of("console-models", offered(visit), lambda model: str(model["name"]), wanted)
        return Drawn("offered_models.html", {"page": page, "at": visit.at})

    return Screen(MODELS, "Models", "inference:use", show)
