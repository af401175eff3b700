"""Routes of the models that a caller may use, for customers and aggregators."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require
from sublet.models import wire
from sublet.reporting.offered_models import Caller, offered_models
from sublet.store.paging import PageRequest, page_of, page_request
from sublet.values.wire import as_answer
from sublet.wiring.system import Sublet


def router(system: Sublet, require: Require) -> APIRouter:
    """`/v1/models` and `/v1/model-feed`, for who may call the model API."""
    routes = APIRouter(tags=["models"], route_class=AnswerRoute)
    caller = require("inference:use")

    @routes.get("/v1/models")
    def list_models(actor: Actor = Depends(caller), page: PageRequest = Depends(page_request)) -> wire.OfferedModelList:
        """List the models that the caller may use, with capabilities, prices, limits and state."""
        found = page_of("offered-models", offered_models(system, _caller(actor)), lambda model: model.name, page)
        return as_answer(wire.OfferedModelList, found.map(lambda model: model.as_dict()).as_dict("models"))

    @routes.get("/v1/model-feed")
    def model_feed(actor: Actor = Depends(caller)) -> wire.ModelFeed:
        """Show models and prices in the format that aggregators read from providers."""
        models = offered_models(system, _caller(actor))
        return as_answer(wire.ModelFeed, {"data": [model.as_feed() for model in models]})

    return routes


def _caller(actor: Actor) -> Caller:
    return Caller(actor.organization_id, actor.project, actor.key_id)
