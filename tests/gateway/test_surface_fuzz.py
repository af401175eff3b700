"""Whatever comes in, every surface reads it or refuses it with a typed error of 400 to 499, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conformance.test_surfaces import STAGES

from sublet.conformance.surfaces import SurfaceStage
from sublet.gateway.surfaces.registry import SURFACES
from sublet.gateway.upstream.writer import check, for_engine
from sublet.values.errors import SubletError

STAGED = [STAGES[type(surface)](surface) for surface in SURFACES]
WORDS = sorted(
    "text type role user assistant system tool content parts image image_url source base64 url data input id name arguments "
    "input_schema parameters function tool_use tool_result thinking budget_tokens enabled auto any required messages tools "
    "tool_choice output message reasoning function_call function_call_output input_text output_text json_schema schema format "
    "functionCall functionResponse inlineData mimeType model generationConfig responseSchema STRING OBJECT contents".split()
)
LEAVES = st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], by)
    return copy


def tried(stage: SurfaceStage, kind: str, body: bytes) -> None:
    try:
        call = stage.surface.parse(kind, body)
        check(call, stage.route)
        json.loads(for_engine(call, stage.route))
    except SubletError as error:
        assert 400 <= error.status < 500 and error.message
        assert stage.refused(stage.surface.refusal(error)) == error.message


@pytest.mark.parametrize("stage", STAGED, ids=lambda stage: type(stage.surface).__name__)
@settings(max_examples=60)
@given(st.data())
def test_a_request_with_anything_in_any_place(stage: SurfaceStage, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(stage.requests)))
    request = json.loads(stage.requests[kind])
    more = data.draw(st.dictionaries(st.sampled_from(sorted(stage.fields) or WORDS), VALUES, max_size=3))
    request = {**request, **more}
    place = data.draw(st.sampled_from(places(request)))
    tried(stage, kind, json.dumps(replaced(request, place, data.draw(VALUES))).encode())


@pytest.mark.parametrize("stage", STAGED, ids=lambda stage: type(stage.surface).__name__)
@settings(max_examples=30)
@given(VALUES, st.binary(max_size=20))
def test_anything_at_all(stage: SurfaceStage, value: Any, garbage: bytes) -> None:
    for kind in stage.requests:
        tried(stage, kind, json.dumps(value).encode())
        tried(stage, kind, garbage)
