"""The running service as the commands see it."""

from __future__ import annotations

from sublet.client.clients import Client
from sublet.client.profiles import target


def connect() -> Client:
    """The service that the environment or the current profile names. Raises InvalidInputError, NotFoundError."""
    found = target()
    return Client(found.url, found.key)
