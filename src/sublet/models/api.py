"""The operator's routes of managed models."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Require
from sublet.fleet.service import Fleet
from sublet.models import wire
from sublet.models.catalog import TOML_BYTES_MAX, parse_toml
from sublet.models.model import Deployment
from sublet.models.service import Models
from sublet.models.wire import NewDeployment, Placement, Scale
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_of, page_request
from sublet.values.errors import InvalidInputError, LimitExceededError
from sublet.values.etags import Condition
from sublet.values.wire import as_answer

_TOML_BODY = {
    "requestBody": {
        "required": True,
        "description": "One `[[models]]` table a model.",
        "content": {"application/toml": {"schema": {"type": "string", "maxLength": TOML_BYTES_MAX}}},
    }
}


def router(models: Models, require: Require, fleet: Fleet) -> APIRouter:
    """`/v1/deployments` and `/v1/catalog`, for the operator. (Customers call the gateway's port.)"""
    routes = APIRouter(tags=["models"], route_class=AnswerRoute)
    operate, rented = Depends(require("deployments:write")), {"surplus_class": models.service_class}

    @routes.get("/v1/deployments", dependencies=[Depends(require("deployments:read"))])
    def list_deployments(page: PageRequest = Depends(page_request)) -> wire.ModelList:
        """List the models of the catalog by name, with their deployments and replicas."""
        found = page_of("models", models.rows(), lambda row: row.entry.name, page)
        return as_answer(wire.ModelList, found.map(lambda row: row.as_dict() | rented).as_dict("models"))

    @routes.post(
        "/v1/deployments",
        status_code=201,
        dependencies=[Depends(require("deployments:write", effect=Effect(Deployment)))],
    )
    def deploy(body: NewDeployment) -> wire.DeploymentState:
        """Deploy a model of the catalog on a pool, or on several, the preferred one first."""
        entry = models.entry(body.model)
        if body.pool_ids and body.pool_id:
            raise InvalidInputError("pool_ids: give either pool_id or pool_ids, not both", field="pool_ids")
        pool_ids = _pools(fleet, body.pool_ids) or [_pool_for(fleet, body.pool_id, entry.accelerators)]
        made = models.deploy(body.model, pool_ids, floor=body.floor, replicas_max=body.replicas_max, scale=body.scale)
        return as_answer(wire.DeploymentState, made.as_dict())

    @routes.get("/v1/deployments/{model:path}", dependencies=[Depends(require("deployments:read"))])
    def show_deployment(request: Request, model: str) -> Tagged[wire.DeploymentState]:
        """Show the deployment of a model."""
        return shown(request, wire.DeploymentState, models.deployment(model).as_dict())

    @routes.put("/v1/deployments/{model:path}/scale", dependencies=[operate])
    def scale(model: str, body: Scale, seen: Condition = Depends(if_match)) -> Tagged[wire.DeploymentState]:
        """Set the number of a model's replicas. With null, Sublet chooses the number."""
        return changed(wire.DeploymentState, models.scale(model, body.replicas, seen).as_dict())

    @routes.put("/v1/deployments/{model:path}/pools", dependencies=[operate])
    def place(model: str, body: Placement, seen: Condition = Depends(if_match)) -> Tagged[wire.DeploymentState]:
        """Set the pools that a deployed model is served on, the preferred one first. Replicas on other pools stop once the
        new ones respond."""
        return changed(wire.DeploymentState, models.place(model, _pools(fleet, body.pool_ids), seen).as_dict())

    @routes.delete("/v1/deployments/{model:path}", status_code=204, dependencies=[operate])
    def remove(model: str, seen: Condition = Depends(if_match)) -> None:
        """Remove a deployment: its replicas finish their requests, then stop."""
        models.remove(model, seen)

    _add_catalog_routes(routes, models, require)
    return routes


def _add_catalog_routes(routes: APIRouter, models: Models, require: Require) -> None:
    operate, fetching = Depends(require("deployments:write")), Lock()

    @routes.post("/v1/catalog", dependencies=[operate], openapi_extra=_TOML_BODY)
    async def add_models(request: Request) -> wire.ModelsAdded:
        """Add models to the catalog (TOML), all or none. A model with the same name is replaced."""
        entries = parse_toml(await request.body(), "the file")
        await run_in_threadpool(models.add_entries, entries)
        return as_answer(
            wire.ModelsAdded,
            {"models": [entry.as_dict() | {"surplus_class": models.service_class} for entry in entries]},
        )

    @routes.post("/v1/catalog/{model:path}/pull", dependencies=[operate])
    def pull(model: str) -> wire.ModelFile:
        """Download the file of a model to the node that answers, and verify it. An intact file is not downloaded again."""
        if not fetching.acquire(blocking=False):
            raise LimitExceededError(
                "another model is already being downloaded; try again when that download has finished"
            )
        try:
            path = models.pull(model)
        finally:
            fetching.release()
        return as_answer(wire.ModelFile, {"model": model, "path": str(path) if path else None})


def _pools(fleet: Fleet, wanted: Sequence[str]) -> list[str]:
    """The ids of pools that were named by id or name. Raises NotFoundError."""
    return [fleet.pool(name).id for name in wanted]


def _pool_for(fleet: Fleet, wanted: str, accelerators: int) -> str:
    """The id of the pool that was named, or of the only one; "" for replicas without accelerators where there is none."""
    if wanted:
        return fleet.pool(wanted).id
    pools = fleet.pools()
    if len(pools) == 1:
        return pools[0].id
    if not pools and accelerators == 0:
        return ""
    names = ", ".join(pool.name for pool in pools)
    raise InvalidInputError(
        f"pool_id: there are several pools ({names}); specify one"
        if pools
        else "there are no pools yet; `sublet up` detects them",
        field="pool_id",
    )
