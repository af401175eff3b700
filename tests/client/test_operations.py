"""The table of operations says what the OpenAPI document says, in both directions, and the methods are made from it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service

from sublet.client.async_calls import AsyncCalls
from sublet.client.calls import Calls
from sublet.client.core import wire_type
from sublet.client.operations import ALL, BYTES, NONE, OPERATIONS, RAW

ROOT = Path(__file__).parents[2]


def test_the_table_and_the_document_have_the_same_operations(service: Service) -> None:
    document = service.client.get("/v1/openapi.json").json()
    told = {
        operation["operationId"]: (
            method.upper(),
            path,
            tuple(item["name"] for item in operation.get("parameters", []) if item["in"] == "query"),
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {item.id: (item.method, item.path, item.query) for item in ALL} == told
    assert len(OPERATIONS) == len(ALL)


def test_bodies_and_answers_are_of_the_types_that_the_document_names(service: Service) -> None:
    document = service.client.get("/v1/openapi.json").json()
    typed = {(method, path.replace(":path}", "}")): kind for (method, path), kind in service.answers.items()}
    for item in ALL:
        told = document["paths"][item.path][item.method.lower()]
        content = told.get("requestBody", {}).get("content", {})
        json_body = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        expected = json_body or (RAW if content else "")
        assert item.body.rpartition(":")[2] == expected, item.id
        kind = typed.get((item.method, item.path))
        # An invoice and a credit note are pages or PDFs too, so they come as they are.
        if kind is not None and item.answer != BYTES:
            assert wire_type(item.answer) is kind, item.id
        (success,) = [status for status in told["responses"] if status.startswith("2")]
        assert (item.answer == NONE) == (success == "204"), item.id
        assert ":" not in item.answer or kind is not None, item.id
    assert [item.id for item in ALL if item.answer == BYTES] == [
        "volumes.copy_out",
        "ledger.read_invoice",
        "ledger.read_note",
        "ledger.read_export",
        "allocation.export_chargeback",
        "system.actuals_page",
    ]


def test_the_methods_are_the_ones_that_the_table_makes() -> None:
    done = subprocess.run(
        [sys.executable, "tools/client.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("calls", [Calls, AsyncCalls])
def test_every_operation_has_a_method(calls: type) -> None:
    made = calls(lambda *words, **options: None)
    for item in ALL:
        group, _, name = item.id.partition(".")
        names = list(inspect.signature(getattr(getattr(made, group), name)).parameters)
        assert names[: len(item.parameters)] == list(item.parameters)
        assert set(item.query) <= set(names)


def called() -> Iterator[tuple[str, str]]:
    """Each operation that a command names, and where."""
    for path in sorted((ROOT / "src" / "sublet" / "commands").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                first = node.args[0] if node.args else None
                named = node.func.attr in ("document", "call", "bytes") and isinstance(first, ast.Constant)
                if named and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield path.name, first.value


def test_commands_name_operations_that_there_are() -> None:
    found = list(called())
    assert found
    assert [entry for entry in found if entry[1] not in OPERATIONS] == []


def test_every_typed_answer_can_be_read() -> None:
    for item in ALL:
        if ":" in item.answer:
            msgspec.json.Decoder(wire_type(item.answer))
