"""`sublet mcp`: a server of the Model Context Protocol over standard input and output, for agents.

The transport is one JSON-RPC 2.0 message per line (modelcontextprotocol.io, transports: stdio). It needs a handful of messages, so
it is written here: the protocol's own package would bring a web server and a dozen other packages with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import sublet
from sublet.client.agent_tools import TOOLS
from sublet.client.remote import connect
from sublet.values.errors import SubletError

if TYPE_CHECKING:
    from sublet.client.clients import Client

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Of the protocol, the newest first."""
LINE_BYTES_MAX = 1024 * 1024
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
INSTRUCTIONS = (
    "Lease accelerators and see models on a Sublet installation, with the key of one organization. quote_lease holds "
    "accelerators for a minute at a fixed price; take_lease spends money, so ask before you call it."
)


class _RpcError(Exception):
    """A request that can't be carried out as it is written."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def mcp() -> None:
    """Serve the Model Context Protocol on standard input and output, so that an agent can see models and take leases.

    It acts with the key of the current profile or of SUBLET_KEY; give the agent a key of its own, with a budget.
    """
    serve(connect(), sys.stdin.buffer, sys.stdout.buffer)


def serve(client: Client, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    """Answer messages until `incoming` ends."""
    while line := incoming.readline(LINE_BYTES_MAX + 1):
        answer: dict[str, Any] | None
        if len(line) > LINE_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = incoming.readline(LINE_BYTES_MAX + 1)
            answer = _failed(None, PARSE_ERROR, f"a message may have at most {LINE_BYTES_MAX} bytes")
        elif not line.strip():
            continue
        else:
            answer = answered(client, line)
        if answer is not None:
            outgoing.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
            outgoing.flush()


def answered(client: Client, line: bytes) -> dict[str, Any] | None:
    """The answer to one message; None for one that wants none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return _failed(None, PARSE_ERROR, "this is not JSON")
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return _failed(None, INVALID_REQUEST, "send one JSON-RPC 2.0 message per line")
    if "method" not in message or "id" not in message:
        # A notification, or an answer to something that was never asked.
        return None
    identity = message["id"]
    if not isinstance(identity, str | int) or isinstance(identity, bool):
        return _failed(None, INVALID_REQUEST, "the id must be a string or a number")
    parameters = message.get("params") or {}
    method = METHODS.get(message["method"]) if isinstance(message["method"], str) else None
    try:
        if method is None:
            raise _RpcError(NO_METHOD, f"there is no method {str(message['method'])[:80]!r}")
        if not isinstance(parameters, dict):
            raise _RpcError(INVALID_PARAMS, "params must be an object")
        return {"jsonrpc": "2.0", "id": identity, "result": method(client, parameters)}
    except _RpcError as error:
        return _failed(identity, error.code, str(error))


def _initialize(client: Client, parameters: dict[str, Any]) -> dict[str, Any]:
    asked = parameters.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "sublet", "title": "Sublet", "version": sublet.__version__},
        "instructions": INSTRUCTIONS,
    }


def _call(client: Client, parameters: dict[str, Any]) -> dict[str, Any]:
    name, arguments = parameters.get("name"), parameters.get("arguments") or {}
    tool = TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise _RpcError(INVALID_PARAMS, f"there is no tool {str(name)[:80]!r}; tools/list lists them")
    if not isinstance(arguments, dict):
        raise _RpcError(INVALID_PARAMS, "arguments must be an object")
    try:
        found = tool.call(client, arguments)
    except SubletError as error:
        # An error of the tool is a result, so that the model reads it and can do otherwise.
        told = {"code": error.code, "message": error.message, **error.details}
        return {"content": [_text({"error": told})], "isError": True}
    return {"content": [_text(found)], "structuredContent": found, "isError": False}


METHODS: dict[str, Callable[[Client, dict[str, Any]], dict[str, Any]]] = {
    "initialize": _initialize,
    "ping": lambda client, parameters: {},
    "tools/list": lambda client, parameters: {"tools": [tool.as_dict() for tool in TOOLS.values()]},
    "tools/call": _call,
}


def _text(document: dict[str, Any]) -> dict[str, str]:
    return {"type": "text", "text": json.dumps(document, ensure_ascii=False, default=str)}


def _failed(identity: str | int | None, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}}
