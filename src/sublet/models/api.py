"""The operator's routes of managed models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends

from sublet.accounts.model import Actor
from sublet.models.service import Models
from sublet.models.wire import NewDeployment, Scale

Require = Callable[[str], Callable[..., Actor]]
"""Makes a FastAPI dependency that yields the Actor, refusing keys without the scope."""


def router(models: Models, require: Require) -> APIRouter:
    """`/v1/deployments`, for the operator. (Customers call the gateway's port.)"""
    routes = APIRouter(tags=["models"], dependencies=[Depends(require("operate"))])

    @routes.get("/v1/deployments")
    def list_deployments() -> dict[str, Any]:
        """The catalog, with the deployment and the replicas of each model."""
        return {"models": [row.as_dict() for row in models.rows()]}

    @routes.post("/v1/deployments", status_code=201)
    def deploy(body: NewDeployment) -> dict[str, Any]:
        return models.deploy(body.model, body.pool_id, floor=body.floor, replicas_max=body.replicas_max).as_dict()

    @routes.put("/v1/deployments/{model:path}/scale")
    def scale(model: str, body: Scale) -> dict[str, Any]:
        return models.scale(model, body.replicas).as_dict()

    @routes.delete("/v1/deployments/{model:path}", status_code=204)
    def remove(model: str) -> None:
        """Drain the model's replicas."""
        models.remove(model)

    return routes
