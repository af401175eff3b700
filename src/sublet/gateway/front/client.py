"""The client's side of an exchange, as the protocol class gives it."""

from __future__ import annotations

from typing import Protocol

from sublet.gateway.surfaces.surface import Surface
from sublet.values.errors import SubletError


class Answered(Protocol):
    """The request that is answered, as far as its answer shows it."""

    @property
    def surface(self) -> Surface: ...

    def headers(self) -> bytes: ...


class Client(Protocol):
    """Where the answer goes."""

    def answer_whole(self, exchange: Answered, body: bytes) -> None: ...

    def answer_head(self, exchange: Answered) -> None: ...

    def answer_part(self, data: bytes) -> None: ...

    def answer_end(self, *, complete: bool) -> None: ...

    def refuse(self, error: SubletError, exchange: Answered) -> None: ...

    def cut(self) -> None: ...
