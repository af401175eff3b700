"""The operator's routes of managed models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from sublet.accounts.model import Require
from sublet.models.model import Deployment
from sublet.models.service import Models
from sublet.models.wire import NewDeployment, Scale
from sublet.store.once import Effect


def router(models: Models, require: Require) -> APIRouter:
    """`/v1/deployments`, for the operator. (Customers call the gateway's port.)"""
    routes = APIRouter(tags=["models"])
    operate = Depends(require("deployments:write"))

    @routes.get("/v1/deployments", dependencies=[Depends(require("deployments:read"))])
    def list_deployments() -> dict[str, Any]:
        """The catalog, with the deployment and the replicas of each model."""
        return {"models": [row.as_dict() for row in models.rows()]}

    @routes.post(
        "/v1/deployments",
        status_code=201,
        dependencies=[Depends(require("deployments:write", effect=Effect(Deployment)))],
    )
    def deploy(body: NewDeployment) -> dict[str, Any]:
        """Offer a model of the catalog on a pool."""
        return models.deploy(body.model, body.pool_id, floor=body.floor, replicas_max=body.replicas_max).as_dict()

    @routes.put("/v1/deployments/{model:path}/scale", dependencies=[operate])
    def scale(model: str, body: Scale) -> dict[str, Any]:
        """Set the number of a model's replicas; null lets Sublet choose."""
        return models.scale(model, body.replicas).as_dict()

    @routes.delete("/v1/deployments/{model:path}", status_code=204, dependencies=[operate])
    def remove(model: str) -> None:
        """Drain the model's replicas."""
        models.remove(model)

    return routes
