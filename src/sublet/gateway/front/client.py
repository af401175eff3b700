"""The client's side of an exchange, as the protocol class gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sublet.values.errors import SubletError

if TYPE_CHECKING:
    from sublet.gateway.requests.exchange import Exchange


class Client(Protocol):
    """Where the answer goes."""

    def answer_whole(self, exchange: Exchange, body: bytes) -> None: ...

    def answer_head(self, exchange: Exchange) -> None: ...

    def answer_part(self, data: bytes) -> None: ...

    def answer_end(self, *, complete: bool) -> None: ...

    def refuse(self, error: SubletError, exchange: Exchange) -> None: ...

    def cut(self) -> None: ...
