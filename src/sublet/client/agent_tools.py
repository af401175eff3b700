"""What an agent may do with a key of its own: see models and classes, quote and take leases, end them. Each tool is one operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sublet.values.errors import InvalidInputError

if TYPE_CHECKING:
    from sublet.client.clients import Client

Run = Callable[["Client", Mapping[str, Any]], dict[str, Any]]
_TEXT = {"type": "string"}
_TIME = {"type": "string", "description": "RFC 3339 with offset, such as 2026-12-01T12:00:00Z."}
_QUOTE_FIELDS: dict[str, Any] = {
    "accelerators": {"type": "integer", "minimum": 1, "description": "How many; 1 if left out."},
    "class": {
        "type": "string",
        "description": "Class of service, from list_classes; the operator's default if left out.",
    },
    "pool": {"type": "string", "description": "Pool, by id or name. Name a pool or a generation if there are several."},
    "generation": {"type": "string", "description": "Generation of accelerators, such as h100."},
    "start": _TIME | {"description": "When it begins, as RFC 3339 with offset; now if left out."},
    "end": _TIME | {"description": "When it ends. Give end or duration_s."},
    "duration_s": {"type": "integer", "minimum": 60, "description": "How long, in seconds. Give end or duration_s."},
    "on_reclaim": {
        "type": "string",
        "enum": ["end", "move"],
        "description": "When the owner reclaims it: end with a credit, or move to another pool.",
    },
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as agents see it. `properties` are its arguments, as a JSON schema; those in `required` must be given. `reads`: it
    changes nothing. `destroys`: what it changes can't be undone."""

    name: str
    title: str
    description: str
    run: Run
    properties: Mapping[str, Any]
    required: tuple[str, ...] = ()
    reads: bool = False
    destroys: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The tool as the Model Context Protocol lists it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": dict(self.properties),
                "required": list(self.required),
                "additionalProperties": False,
            },
            "annotations": {
                "readOnlyHint": self.reads,
                "destructiveHint": self.destroys,
                "idempotentHint": True,
                "openWorldHint": False,
            },
        }

    def call(self, client: Client, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the operation answers. Raises SubletError."""
        for name in arguments:
            if name not in self.properties:
                known = ", ".join(self.properties) or "none"
                raise InvalidInputError(f"{self.name} has no argument {name!r}; its arguments are: {known}", field=name)
        for name in self.required:
            if name not in arguments:
                raise InvalidInputError(f"{self.name} needs the argument {name!r}", field=name)
        for name, value in arguments.items():
            kind = self.properties[name]["type"]
            good = {"string": str, "integer": int, "array": list, "boolean": bool}[kind]
            if not isinstance(value, good) or (kind == "integer" and isinstance(value, bool)):
                raise InvalidInputError(f"{name}: must be of type {kind}", field=name)
        return self.run(client, arguments)


def _accept(client: Client, arguments: Mapping[str, Any]) -> dict[str, Any]:
    # Asked again for the same quote, it is the same lease and not a second one.
    key = f"quote-{arguments['quote_id']}"
    found: dict[str, Any] = client.document("leases.accept", body=dict(arguments), idempotency_key=key)
    return found


def _leases(client: Client, arguments: Mapping[str, Any]) -> dict[str, Any]:
    query = {"live": "false" if arguments.get("ended") else "true"}
    found: dict[str, Any] = client.collected("leases.list_leases", query=query)
    return found


_LEASE = {"lease_id": {"type": "string", "description": "Id of a lease, from list_leases."}}

TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "whoami",
            "Who am I",
            "The organization, role and permissions of the key in use.",
            lambda client, arguments: client.document("accounts.whoami"),
            {},
            reads=True,
        ),
        Tool(
            "list_models",
            "List models",
            "The models that this key may call, with capabilities, prices per million tokens by tier, limits and state.",
            lambda client, arguments: client.collected("models.list_models"),
            {},
            reads=True,
        ),
        Tool(
            "list_classes",
            "List classes of service",
            "The classes of service in which accelerators are leased: what each promises, and what it credits.",
            lambda client, arguments: client.document("leases.list_classes"),
            {},
            reads=True,
        ),
        Tool(
            "list_pools",
            "List pools",
            "The pools of accelerators, with their generation and size.",
            lambda client, arguments: client.collected("fleet.list_pools"),
            {},
            reads=True,
        ),
        Tool(
            "quote_lease",
            "Quote a lease",
            "Ask for a price and hold the accelerators for a minute. Nothing is paid before take_lease. Without capacity, the "
            "error says what would be possible.",
            lambda client, arguments: client.document("leases.quote", body=dict(arguments)),
            _QUOTE_FIELDS,
        ),
        Tool(
            "take_lease",
            "Take a lease",
            "Accept a quote: the lease is paid for from its start. Ask the person whose money it is before you call this.",
            _accept,
            {
                "quote_id": {"type": "string", "description": "Id of a quote that has not expired, from quote_lease."},
                "ssh_public_keys": {
                    "type": "array",
                    "items": _TEXT,
                    "minItems": 1,
                    "description": "OpenSSH public keys that may log in.",
                },
            },
            required=("quote_id", "ssh_public_keys"),
        ),
        Tool(
            "list_leases",
            "List leases",
            "The organization's leases, with how to log in.",
            _leases,
            {"ended": {"type": "boolean", "description": "Also those that are over."}},
            reads=True,
        ),
        Tool(
            "show_lease",
            "Show a lease",
            "One lease: its state, address, cost and history.",
            lambda client, arguments: client.document("leases.show", arguments["lease_id"]),
            _LEASE,
            required=("lease_id",),
            reads=True,
        ),
        Tool(
            "preview_end",
            "Preview the end of a lease",
            "What ending a lease now would save and cost. Nothing is changed.",
            lambda client, arguments: client.document("leases.preview_end", arguments["lease_id"]),
            _LEASE,
            required=("lease_id",),
            reads=True,
        ),
        Tool(
            "end_lease",
            "End a lease",
            "End a lease now. Everything on it that is not in a volume is deleted.",
            lambda client, arguments: client.document("leases.end", arguments["lease_id"]),
            _LEASE,
            required=("lease_id",),
            destroys=True,
        ),
    )
}
"""By name, in the order in which they are listed."""
