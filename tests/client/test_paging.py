"""Both clients go over every row of a list, page by page, against the real API."""

from __future__ import annotations

import asyncio

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service

from sublet.client import AsyncClient, Client
from sublet.client import paging as pages
from sublet.client.core import Answer, Request
from sublet.values.errors import InvalidInputError, UnavailableError

NAMES = ["acme", "bolt", "operator", "team"]


class Direct:
    """Carries a request to an application in this process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.asked: list[str] = []

    def send(self, request: Request) -> Answer:
        self.asked.append(request.target)
        headers = {**request.headers, "Authorization": f"Bearer {self._service.keys['operator']}"}
        found = self._service.client.request(request.method, request.target, content=request.body, headers=headers)
        return Answer(found.status_code, {name.lower(): text for name, text in found.headers.items()}, found.content)

    def close(self) -> None:
        pass


class DirectAsync:
    """The same for asyncio."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct

    async def send(self, request: Request) -> Answer:
        return await asyncio.to_thread(self._direct.send, request)

    async def close(self) -> None:
        pass


@pytest.fixture
def direct(service: Service, monkeypatch: pytest.MonkeyPatch) -> Direct:
    monkeypatch.setattr(pages, "ROWS_PER_PAGE", 2)
    monkeypatch.setattr("sublet.client.clients.ROWS_PER_PAGE", 2)
    return Direct(service)


def test_every_row_comes_and_no_page_before_it_is_needed(service: Service, direct: Direct) -> None:
    client = Client("http://sublet", "key", transport=direct)  # type: ignore[arg-type]
    rows = client.accounts.iter_organizations()
    first = [next(rows).name, next(rows).name]
    assert len(direct.asked) == 1
    assert sorted([*first, *(row.name for row in rows)]) == NAMES and len(direct.asked) == 2
    whole = client.collected("accounts.list_organizations")
    assert sorted(row["name"] for row in whole["organizations"]) == NAMES and "next" not in whole
    assert len(list(client.fleet.iter_units(service.world.pool.id))) == len(
        service.system.fleet.units(service.world.pool.id)
    )
    with pytest.raises(InvalidInputError):
        client.leases.list_leases(after="nothing")


def test_the_async_client_does_the_same(service: Service, direct: Direct) -> None:
    async def names() -> list[str]:
        client = AsyncClient("http://sublet", "key", transport=DirectAsync(direct))  # type: ignore[arg-type]
        found = [row.name async for row in client.accounts.iter_organizations()]
        assert [row.id async for row in client.leases.iter_leases(live=True)] == []
        return found

    assert sorted(asyncio.run(names())) == NAMES


def test_a_page_that_leads_to_itself_ends_with_an_error() -> None:
    assert pages.following(None, "a") == "a" and pages.following("a", None) is None
    with pytest.raises(UnavailableError):
        pages.following("a", "a")
