"""Agents: the Model Context Protocol over standard input and output, with a key of their own."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import threading
import time
from typing import Any

import pytest
import uvicorn
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.leases.world import KEY
from tests.terminal import sit_at

from sublet.client.agent_tools import TOOLS
from sublet.client.remote import connect
from sublet.commands.mcp import LINE_BYTES_MAX, VERSIONS, serve


class Agent:
    """Somebody who speaks to the server line by line."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch, who: str = "acme") -> None:
        sit_at(monkeypatch, service.api, service.keys[who])
        self.client = connect()

    def say(self, *lines: bytes | dict[str, Any]) -> list[dict[str, Any]]:
        raw = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        answers = io.BytesIO()
        serve(self.client, io.BytesIO(raw), answers)
        return [json.loads(line) for line in answers.getvalue().splitlines()]

    def ask(self, method: str, **parameters: Any) -> Any:
        [answer] = self.say({"jsonrpc": "2.0", "id": 7, "method": method, "params": parameters})
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
        return answer.get("result") or answer["error"]

    def call(self, tool: str, **arguments: Any) -> Any:
        found = self.ask("tools/call", name=tool, arguments=arguments)
        assert found["isError"] is False, found
        assert json.loads(found["content"][0]["text"]) == found["structuredContent"]
        return found["structuredContent"]

    def refused(self, tool: str, **arguments: Any) -> Any:
        found = self.ask("tools/call", name=tool, arguments=arguments)
        assert found["isError"] is True, found
        return json.loads(found["content"][0]["text"])["error"]


@pytest.fixture
def agent(service: Service, monkeypatch: pytest.MonkeyPatch) -> Agent:
    return Agent(service, monkeypatch)


def test_an_agent_quotes_takes_and_ends_a_lease_once(agent: Agent, service: Service) -> None:
    pool = service.world.pool.name
    assert {item["name"] for item in agent.call("list_pools")["pools"]} == {pool}
    assert agent.call("list_models")["models"] == [] and agent.call("list_classes")["classes"]
    quote = agent.call("quote_lease", **{"class": "spot", "pool": pool, "accelerators": 2, "duration_s": 3600})
    first, second = (agent.call("take_lease", quote_id=quote["id"], ssh_public_keys=[KEY]) for _ in range(2))
    assert first["id"] == second["id"], "asked again, it is the same lease"
    assert [item["id"] for item in agent.call("list_leases")["leases"]] == [first["id"]]
    assert agent.call("show_lease", lease_id=first["id"])["accelerators"] == 2
    agent.call("preview_end", lease_id=first["id"])
    agent.call("end_lease", lease_id=first["id"])
    made = service.system.leases.lease(first["id"])
    assert made.organization_id == service.organizations["acme"]


def test_what_can_not_be_is_told_so_that_a_model_can_read_it(agent: Agent, service: Service) -> None:
    assert agent.refused("show_lease", lease_id="lse_none")["code"] == "not_found"
    assert "needs the argument 'lease_id'" in agent.refused("show_lease")["message"]
    assert "has no argument 'flavor'" in agent.refused("list_pools", flavor="x")["message"]
    assert "must be of type integer" in agent.refused("quote_lease", accelerators="2")["message"]
    assert "must be of type integer" in agent.refused("quote_lease", accelerators=True)["message"]
    pool = service.world.pool
    many = agent.refused("quote_lease", pool=pool.name, accelerators=pool.accelerators + 1, duration_s=600)
    assert many["code"] and many["message"]
    other = Agent.call(agent, "whoami")
    assert other["organization_id"] == service.organizations["acme"]


def test_a_key_can_do_no_more_here_than_elsewhere(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.keys["biller"] = service.system.accounts.create_key("acme", scopes=("billing",))[1]
    agent = Agent(service, monkeypatch, "biller")
    assert agent.refused("list_models")["code"] == "forbidden"
    assert agent.refused("quote_lease", duration_s=600)["code"] == "forbidden"


def test_the_protocol(agent: Agent) -> None:
    hello = agent.ask(
        "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "1"}
    )
    assert (hello["protocolVersion"], hello["serverInfo"]["name"]) == ("2025-06-18", "sublet")
    assert agent.ask("initialize", protocolVersion="1999-01-01")["protocolVersion"] == VERSIONS[0]
    assert agent.say({"jsonrpc": "2.0", "method": "notifications/initialized"}, b"\n") == []
    listed = agent.ask("tools/list")["tools"]
    assert [tool["name"] for tool in listed] == list(TOOLS)
    for tool in listed:
        assert set(tool["inputSchema"]["required"]) <= set(tool["inputSchema"]["properties"]), tool["name"]
        assert len(tool["description"]) > 20
    assert {tool["name"] for tool in listed if tool["annotations"]["destructiveHint"]} == {"end_lease"}
    codes = [
        answer["error"]["code"]
        for answer in agent.say(
            b"nonsense\n",
            b"[1]\n",
            b"[" * 100_000 + b"\n",
            b"x" * (LINE_BYTES_MAX + 10) + b"\n",
            {"jsonrpc": "2.0", "id": 1, "method": "nothing"},
            {"jsonrpc": "2.0", "id": True, "method": "ping"},
            {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []} | {"params": [1]},
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "nothing"}},
        )
    ]
    assert codes == [-32700, -32600, -32700, -32700, -32601, -32600, -32602, -32602]
    [pong] = agent.say({"jsonrpc": "2.0", "id": "a", "method": "ping"})
    assert pong == {"jsonrpc": "2.0", "id": "a", "result": {}}


@pytest.mark.real
def test_the_protocol_s_own_client_speaks_with_it(service: Service) -> None:
    protocol = pytest.importorskip("mcp", reason="pip install mcp")
    stdio_client = pytest.importorskip("mcp.client.stdio").stdio_client
    server = uvicorn.Server(uvicorn.Config(service.api, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not (server.started and server.servers):
        assert thread.is_alive()
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    environment = {**os.environ, "SUBLET_URL": url, "SUBLET_KEY": service.keys["acme"]}
    parameters = protocol.StdioServerParameters(
        command=sys.executable, args=["-c", "from sublet.cli import main; main()", "mcp"], env=environment
    )

    async def talk() -> None:
        async with stdio_client(parameters) as (reading, writing), protocol.ClientSession(reading, writing) as session:
            hello = await session.initialize()
            assert hello.serverInfo.name == "sublet"
            listed = await session.list_tools()
            assert [tool.name for tool in listed.tools] == list(TOOLS)
            wanted = {"class": "spot", "pool": service.world.pool.name, "duration_s": 3600}
            quoted = await session.call_tool("quote_lease", wanted)
            assert not quoted.isError and quoted.structuredContent is not None
            taking = {"quote_id": quoted.structuredContent["id"], "ssh_public_keys": [KEY]}
            taken = await session.call_tool("take_lease", taking)
            assert not taken.isError
            refused = await session.call_tool("show_lease", {"lease_id": "lse_none"})
            assert refused.isError
            await session.send_ping()

    try:
        asyncio.run(asyncio.wait_for(talk(), 120))
    finally:
        server.should_exit = True
        thread.join()
    assert len(service.ask("acme", "GET", "/v1/leases").json()["leases"]) == 1
