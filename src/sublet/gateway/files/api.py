"""The routes of files: uploading, listing, reading and deleting them, as OpenAI's clients do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as AppRoute
from starlette.types import Receive, Scope, Send

from sublet.gateway.files.model import Owner, StoredFile, asked_of
from sublet.gateway.files.store import Files
from sublet.gateway.model import KeyGrant
from sublet.gateway.refusals import InvalidRequestError, too_large

UPLOADS_MAX, UPLOADS_PER_ORGANIZATION_MAX = 32, 4
"""Uploads that a gateway receives at once; others wait."""
FRAME_BYTES = 64 * 1024
"""What a multipart body has besides the file."""

GrantOf = Callable[[Request], KeyGrant]


def file_routes(files: Files, grant_of: GrantOf) -> list[AppRoute]:
    """The routes below /v1/files. What the asking key may not see is not there."""
    turns = _Turns()

    async def upload(request: Request) -> Response:
        owner = Owner.of(grant_of(request))
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise InvalidRequestError("send the file as multipart/form-data", param="file")
        async with turns.of(owner.organization_id):
            return JSONResponse(await _uploaded(files, owner, request))

    async def list_files(request: Request) -> Response:
        owner = Owner.of(grant_of(request))
        return JSONResponse(await run_in_threadpool(files.page, owner, request.query_params))

    async def one_file(request: Request) -> Response:
        owner = Owner.of(grant_of(request))
        found = await run_in_threadpool(files.get, owner, request.path_params["name"])
        return JSONResponse(found.as_dict())

    async def content(request: Request) -> Response:
        owner, name = Owner.of(grant_of(request)), request.path_params["name"]
        found = await run_in_threadpool(files.get, owner, name)
        return _Content(files, found)

    async def drop_file(request: Request) -> Response:
        owner, name = Owner.of(grant_of(request)), request.path_params["name"]
        await run_in_threadpool(files.drop, owner, name)
        return JSONResponse({"id": name, "object": "file", "deleted": True})

    return [
        AppRoute("/v1/files", list_files, methods=["GET"]),
        AppRoute("/v1/files", upload, methods=["POST"]),
        AppRoute("/v1/files/{name}", one_file, methods=["GET"]),
        AppRoute("/v1/files/{name}", drop_file, methods=["DELETE"]),
        AppRoute("/v1/files/{name}/content", content, methods=["GET"]),
    ]


class _Turns:
    """Who may upload: an organization whose uploads take long delays its own next ones, not those of others."""

    def __init__(self) -> None:
        self._all = anyio.Semaphore(UPLOADS_MAX)
        self._own: dict[str, tuple[anyio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, organization_id: str) -> AsyncIterator[None]:
        own, count = self._own.get(organization_id, (anyio.Semaphore(UPLOADS_PER_ORGANIZATION_MAX), 0))
        self._own[organization_id] = (own, count + 1)
        try:
            async with own, self._all:
                yield
        finally:
            own, count = self._own.pop(organization_id)
            if count > 1:
                self._own[organization_id] = (own, count - 1)


class _Content(Response):
    """The content of a file, a part at a time. Its last part says that it is the last, for a client that has all its bytes may ask
    for something else at once."""

    def __init__(self, files: Files, file: StoredFile) -> None:
        super().__init__(media_type="application/octet-stream")
        self.headers["content-length"] = str(file.bytes)
        self.headers["content-disposition"] = "attachment"
        self._parts = files.text(file.id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        part = await run_in_threadpool(next, self._parts, "")
        while True:
            following = await run_in_threadpool(next, self._parts, None)
            more = following is not None
            await send({"type": "http.response.body", "body": part.encode(), "more_body": more})
            if following is None:
                return
            part = following


async def _uploaded(files: Files, owner: Owner, request: Request) -> dict[str, Any]:
    try:
        # Beyond a megabyte it is on disk, not in memory.
        async with request.form(max_files=1, max_fields=8, max_part_size=4096) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise InvalidRequestError("file is missing", param="file")
            asked = asked_of(file.filename, form)
            size = file.size or 0
            if not size:
                raise InvalidRequestError("the file is empty", param="file")
            if size > files.limits.file_bytes_max:
                raise too_large(files.limits.file_bytes_max)
            with closing(file.file):
                return (await run_in_threadpool(partial(files.add, owner, asked, file.file, size))).as_dict()
    except HTTPException as error:
        raise InvalidRequestError(f"The body is not a form that can be read: {error.detail}") from error
    except ClientDisconnect as error:
        raise InvalidRequestError("The upload broke off; send the file again") from error
