"""Zero bytes in ids: PostgreSQL takes none in its texts, so that a search for one fails instead of finding nothing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.harness import MODEL, Running

from sublet.store import Store


@pytest.fixture
def store(postgres_store: Store) -> Store:
    """Instead of SQLite, which finds nothing."""
    return postgres_store


@pytest.mark.real
def test_a_zero_byte_in_an_id_finds_nothing_on_postgresql(make_gateway: Any) -> None:
    gateway: Running = make_gateway()
    for path in (
        "files/%00",
        "files/a%00/content",
        "files?after=%00",
        "batches/%00",
        "batches?after=%00",
        "responses/%00",
    ):
        found = gateway.get(f"/v1/{path}")
        assert found.status == 400 and "zero byte" in found.body.decode(), path
    for path, body in (
        ("batches", {"input_file_id": "\0", "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
        ("responses", {"model": MODEL, "input": "x", "previous_response_id": "\0"}),
        ("responses", {"model": MODEL, "input": "x", "previous_response_id": "\0", "background": True}),
    ):
        assert gateway.post(body, path=f"/v1/{path}").status == 400, path
