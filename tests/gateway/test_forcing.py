"""Tool calls forced by a schema, of models that have no tools: read from the engine's text however it is cut."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, ask, chunk, usage, whole
from tests.gateway.test_openai_surface import IDENTITY, ROUTE, SURFACE

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.call import Call
from sublet.gateway.surfaces.openai_answers import OpenAIStream
from sublet.gateway.upstream.forced_calls import ForcedStream, with_calls
from sublet.gateway.upstream.writer import check, for_engine
from sublet.store.tables.models import models

PLAIN = replace(ROUTE, capabilities=frozenset({"chat", "json_schema"}))


def tool(name: str, **schema: Any) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name, "parameters": schema or {"type": "object"}}
    return {"type": "function", "function": function}


def forced(*tools: dict[str, Any], choice: Any = "required", **fields: Any) -> Call:
    body = {**ask(tools=list(tools), tool_choice=choice), "model": "toy", **fields}
    call = SURFACE.parse("chat", json.dumps(body).encode())
    check(call, PLAIN)
    return call


def calls(message: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["function"]["name"], item["function"]["arguments"]) for item in message["tool_calls"]]


def told(call: Call, text: str, reason: str = "stop") -> dict[str, Any]:
    assert call.forcing is not None
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    body = json.dumps({"choices": [choice]}).encode()
    return json.loads(with_calls(call.forcing, body, IDENTITY))["choices"][0]


def streamed(call: Call, pieces: list[str], reason: str = "stop") -> tuple[str, str, str | None, str]:
    """Name, arguments, why it ended, and text."""
    assert call.forcing is not None
    form = ForcedStream(OpenAIStream(IDENTITY, call), call.forcing, IDENTITY)
    payloads: list[dict[str, Any]] = [{"delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    payloads.append({"delta": {}, "finish_reason": reason})
    out = b"".join(form.event(json.dumps({"choices": [{"index": 0, **item}]}).encode()) for item in payloads)
    choices = [json.loads(line[6:])["choices"][0] for line in out.decode().split("\n\n") if line]
    parts = [part["function"] for choice in choices for part in choice["delta"].get("tool_calls", ())]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    name = "".join(part.get("name", "") for part in parts)
    return name, "".join(part["arguments"] for part in parts), choices[-1]["finish_reason"], text


def test_one_tool_is_its_schema_and_several_are_a_choice_of_objects() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    asked = json.loads(for_engine(forced(tool("one", **schema)), PLAIN))
    assert asked["response_format"]["json_schema"]["schema"] == schema and "tools" not in asked
    named = {"type": "function", "function": {"name": "two"}}
    asked = json.loads(for_engine(forced(tool("one"), tool("two", **schema), choice=named), PLAIN))
    assert asked["response_format"]["json_schema"]["schema"] == schema
    defined = {"$ref": "#/$defs/A", "$defs": {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"type": "string"}}}
    asked = json.loads(for_engine(forced(tool("one", **defined), tool("two", **schema)), PLAIN))
    found = asked["response_format"]["json_schema"]["schema"]
    assert found["$defs"] == {"t0_A": {"items": {"$ref": "#/$defs/t0_B"}}, "t0_B": {"type": "string"}}
    assert [item["properties"]["arguments"] for item in found["anyOf"]] == [{"$ref": "#/$defs/t0_A"}, schema]


def test_a_model_with_tools_gets_them_and_one_that_can_do_neither_refuses() -> None:
    body = json.dumps({**ask(tools=[tool("one")], tool_choice="required"), "model": "toy"}).encode()
    call = SURFACE.parse("chat", body)
    able = replace(ROUTE, capabilities=frozenset({"chat", "tools"}))
    check(call, able)
    assert call.forcing is None and "tools" in json.loads(for_engine(call, able))
    with pytest.raises(InvalidRequestError, match="does not support tools"):
        check(SURFACE.parse("chat", body), replace(ROUTE, capabilities=frozenset({"chat"})))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("auto", "can't choose tools by itself"),
        ("sometimes", "can't be 'sometimes'"),
        ({"type": "function", "function": {"name": "other"}}, "'other', which is not in tools"),
        (3, "Invalid value for tools"),
    ],
)
def test_what_can_not_be_forced_is_refused(choice: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        forced(tool("one"), choice=choice)


def test_no_tool_wanted_is_an_answer_without() -> None:
    call = forced(tool("one"), choice="none")
    asked = json.loads(for_engine(call, PLAIN))
    assert call.forcing is None and not {"tools", "tool_choice", "response_format"} & set(asked)


ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(ARGUMENTS, st.booleans(), st.sampled_from(["", " ", "\n  "]), st.data())
def test_any_call_is_read_whole_and_in_any_pieces(value: Any, several: bool, space: str, data: st.DataObject) -> None:
    call = forced(tool("one"), tool('t"w\\o')) if several else forced(tool('t"w\\o'))
    arguments = json.dumps(value)
    name = json.dumps('t"w\\o')
    text = f'{{{space}"name":{space}{name},{space}"arguments":{space}{arguments}{space}}}' if several else arguments
    choice = told(call, text)
    [(found, sent)] = calls(choice["message"])
    assert (found, json.loads(sent)) == ('t"w\\o', value)
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found, sent, reason, said = streamed(call, pieces)
    assert (found, json.loads(sent), reason, said) == ('t"w\\o', value, "tool_calls", "")


def test_a_call_that_broke_off_is_told_as_far_as_it_came() -> None:
    several = forced(tool("one"), tool("two"))
    assert streamed(several, ['{"name":"two","arguments":{"a":', "{}"], "length") == ("two", '{"a":{}', "length", "")
    assert streamed(several, ['{"name":"tw'], "length") == ("", "", "length", '{"name":"tw')
    choice = told(several, '{"name":"tw', "length")
    assert choice["message"]["content"] == '{"name":"tw' and choice["finish_reason"] == "length"


def test_a_gateway_forces_a_call_and_counts_what_the_engine_counts(
    make_gateway: Any, engine: ScriptedEngine, store: Any
) -> None:
    async def script(answering: Answering) -> None:
        assert "tools" not in answering.asked.body
        if answering.asked.body.get("stream"):
            tokens = {**chunk(), "choices": [], "usage": usage(7, 4)}
            await answering.stream(chunk('{"at":'), chunk('"Oslo"}'), chunk(finish="stop"), tokens)
        else:
            await answering.answer(whole('{"at":"Oslo"}', 7, 4))

    engine.script = script
    gateway: Running = make_gateway(start=False)

    def make_able(connection: Any) -> None:
        entry = connection.execute(models.select()).mappings().one()["entry"]
        connection.execute(update(models).values(entry={**entry, "capabilities": ["chat", "json_schema"]}))

    store.write(make_able)
    gateway.start()
    body = {"model": MODEL, **ask(tools=[tool("weather")], tool_choice="required")}
    answer = gateway.post(body).json
    [choice] = answer["choices"]
    assert calls(choice["message"]) == [("weather", '{"at":"Oslo"}')] and answer["usage"]["completion_tokens"] == 4
    parts = [
        part["function"]
        for item in gateway.post({**body, "stream": True}).chunks
        for part in item["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert "".join(part["arguments"] for part in parts) == '{"at":"Oslo"}'
    assert [(line["input"], line["output"]) for line in gateway.settled(2)] == [(7, 4), (7, 4)]
