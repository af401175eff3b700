"""What the gateway does by itself, beside the requests of its clients: batches, and background responses."""

from __future__ import annotations

import asyncio

from starlette.routing import Route as AppRoute

from sublet.gateway.background.api import background_routes
from sublet.gateway.background.worker import BackgroundWorker
from sublet.gateway.batches.api import batch_routes
from sublet.gateway.batches.store import Batches, uses_file
from sublet.gateway.batches.worker import BatchWorker, Bill, Pace
from sublet.gateway.files.api import GrantOf, file_routes
from sublet.gateway.files.model import FileLimits
from sublet.gateway.files.store import MIB, Files
from sublet.gateway.model import GatewaySettings
from sublet.gateway.service import Gateway
from sublet.store import Store


class Work:
    """Without `bill` there is none of it."""

    def __init__(self, gateway: Gateway, store: Store, bill: Bill | None, pace: Pace) -> None:
        self._gateway = gateway
        self._files = _files(gateway.settings, store) if bill is not None else None
        self._batches = BatchWorker(gateway, self._files, bill, pace) if self._files and bill is not None else None
        responses = gateway.responses
        self._background = (
            BackgroundWorker(gateway, responses, store, bill, pace)
            if responses is not None and bill is not None
            else None
        )
        gateway.backgrounds = self._background is not None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def file_bytes_max(self) -> int:
        """Bytes that a file may have; 0: there are no files."""
        return self._files.limits.file_bytes_max if self._files is not None else 0

    def routes(self, grant_of: GrantOf) -> list[AppRoute]:
        """Where clients ask for it."""
        found: list[AppRoute] = []
        if self._files is not None:
            found += [*file_routes(self._files, grant_of), *batch_routes(Batches(self._files), grant_of)]
        if self._background is not None and self._gateway.responses is not None:
            found += background_routes(self._background, self._gateway.responses, grant_of)
        return found

    def start(self) -> None:
        """To be called on the loop."""
        loop = self._gateway.loop
        self._tasks = [
            loop.create_task(worker.work_for_ever())
            for worker in (self._batches, self._background)
            if worker is not None
        ]

    async def stop(self) -> None:
        """End it; what is not done yet is for other gateways, or for the next start."""
        for task in self._tasks:
            task.cancel()
        for worker in (self._batches, self._background):
            if worker is not None:
                await worker.stop()


def _files(settings: GatewaySettings, store: Store) -> Files | None:
    if not settings.file_mib_max:
        return None
    limits = FileLimits(
        settings.file_mib_max * MIB,
        settings.files_mib_per_organization_max * MIB,
        settings.files_per_organization_max,
        settings.files_keep_days * 86_400,
    )
    return Files(store, limits, uses_file)
