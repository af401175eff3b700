"""What an operation of the API is, as both clients know it."""

from __future__ import annotations

from dataclasses import dataclass

DOCUMENT, NONE, BYTES, RAW = "document", "none", "bytes", "raw"
PAGE = ("limit", "after")
PAGE_OF_ONE = ("organization_id", *PAGE)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation by its id in the OpenAPI document.

    `body` and `answer` name wire types as `domain:Class`, so that only the types in use are imported. A body may also be "raw"
    (bytes of the caller's own), an answer "document" (JSON as it came), "bytes" or "none". `items` is the field of a page that
    holds its rows, where the answer is a page of a list. One that `edits` changes something in place, and takes `if_match`.
    """

    id: str
    method: str
    path: str
    query: tuple[str, ...] = ()
    body: str = ""
    answer: str = DOCUMENT
    items: str = ""
    edits: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path, in order."""
        return tuple(part.partition("}")[0] for part in self.path.split("{")[1:])
