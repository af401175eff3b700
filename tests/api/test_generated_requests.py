"""Every operation, asked with what its document allows and with what it forbids: the answers are as the document says.

Requests are generated from the OpenAPI document. No answer is a failure of the service, each status and header is declared, each
body is of its schema, and nothing that the document forbids is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok
from tests.api.conftest import Service

from sublet.simulation.world import World

pytestmark = pytest.mark.real

EXAMPLES = 10
# What a schema can't say (a pool that there is, an end after its start) is refused, and the key is the test's own.
LEFT_OUT = {"ignored_auth", "positive_data_acceptance"}


def _as_text(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


def _as_json(_: Any, value: Any) -> bytes:
    return json.dumps(value).encode()


for media in ("application/toml", "text/csv"):
    schemathesis.serializer(media)(_as_text)
for media in ("application/cloudevents+json", "application/cloudevents-batch+json"):
    schemathesis.serializer(media)(_as_json)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    world = World(Path(tmp_path_factory.mktemp("world")))
    world.remember(days=8, need=0.3, spread=0.05)
    yield Service(world)
    world.close()


def _asker(service: Service, operation: Any, mode: GenerationMode, faults: list[str]) -> Callable[[], None]:
    checks = [check for check in CHECKS.get_all() if check.__name__ not in LEFT_OUT]

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {service.keys['operator']}"}
        if case.query and "wait_s" in case.query:
            case.query = {**case.query, "wait_s": 0}
        response = case.call()
        try:
            case.validate_response(response, checks=checks)
        except (Exception, BaseExceptionGroup) as error:
            faults.append(
                f"{operation.label} {response.status_code}: {str(error)[:600]}\n{case.as_curl_command()[:400]}"
            )

    return ask


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_are_as_the_document_says(service: Service, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", service.api)
    faults: list[str] = []
    asked = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found.err()
        operation = found.ok()
        takes = operation.definition.raw.get("parameters") or operation.definition.raw.get("requestBody")
        if mode is GenerationMode.NEGATIVE and not takes:
            continue
        _asker(service, operation, mode, faults)()
        asked += 1
    assert asked > 60
    assert not faults, "\n\n".join(faults[:20])
