"""Idempotency: under one key a request takes effect once, and every repetition gets the same answer.

A key belongs to an organization and to the first request that came under it; used for another, it is refused, also while the
first is still being carried out. Where a request may not be repeated, its answer is written in the transaction that has the
effect, so that no crash can part them. Where it may, the key is reserved for it before it begins, and its answer is kept at its
end; a request that was refused gives the key back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from sublet.store.audit import acting
from sublet.store.tables.idempotency import idempotent_answers as answers
from sublet.values.clock import Clock
from sublet.values.errors import ConflictError, LimitExceededError

T = TypeVar("T")

KEPT = timedelta(days=7)
FORGOTTEN_MAX = 1_000
ANSWER_BYTES_MAX = 256 * 1024
IN_FLIGHT_MAX = 32
_NONCE_BYTES = 12
_PENDING = 0
"""The status of a reserved key: its request is being carried out, or a crash ended it."""


class IdempotencyKeyReusedError(ConflictError):
    """This idempotency key was used for another request; choose a new key for each request."""

    code = "idempotency_key_reused"


class AnsweredError(Exception):
    """The request was carried out before: `answer` is what it got. Not an error for the caller, who gets that answer."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__("answered before")
        self.status = status
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Effect:
    """What a request does, so that its answer can be kept with it: the write that returns a `kind` has the effect, and
    `shape` makes the answer of what it returns. `secret` answers are kept so that only who asked can read them."""

    kind: type | tuple[type, ...]
    shape: Callable[[Any], Any] = lambda made: made.as_dict()
    secret: bool = False


class Transactions(Protocol):
    """What a request under a key needs of the store."""

    @property
    def clock(self) -> Clock: ...

    def read(self) -> AbstractContextManager[Connection]: ...

    def write(self, fn: Callable[[Connection], T]) -> T: ...

    def lock(self, connection: Connection, name: str) -> None: ...


@dataclass(slots=True)
class Once:
    """A request under an idempotency key. `secret` is what the caller signs in with."""

    store: Transactions
    organization_id: str
    key: str
    request_sha256: str
    status: int
    effect: Effect | None
    secret: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    is_kept: bool = False

    def begin(self) -> None:
        """Before the request is carried out: raises AnsweredError where it was carried out before, IdempotencyKeyReusedError
        where another one was or is being carried out. From now on no other request is carried out under the key."""
        self.refuse_or_replay()
        if self.effect is None:
            self.store.write(self._reserve)

    def refuse_or_replay(self) -> None:
        """Raises AnsweredError where the request was carried out before, IdempotencyKeyReusedError where another one was."""
        with self.store.read() as connection:
            self._look(connection)

    def run(self, connection: Connection, fn: Callable[[Connection], T]) -> T:
        """`fn` as it is; where its result is the request's effect, the answer is kept in the same transaction."""
        if self.effect is None:
            return fn(connection)
        # Before every other lock, so that two of the same request can't wait for each other.
        self.store.lock(connection, f"once:{self.organization_id}:{self._key_sha256}")
        self._look(connection)
        result = fn(connection)
        if isinstance(result, self.effect.kind):
            self._insert(connection, self.status, json.dumps(self.effect.shape(result)))
            self.is_kept = True
        return result

    def keep(self, status: int, body: bytes) -> None:
        """Keep the answer of a request that may be carried out repeatedly, such as to end a lease, or that had no effect."""

        def write(connection: Connection) -> None:
            self.store.lock(connection, f"once:{self.organization_id}:{self._key_sha256}")
            row = self._row(connection)
            if row is None:
                self._insert(connection, status, body.decode() or "null")
            elif row.status == _PENDING and row.request_sha256 == self.request_sha256:
                self._update(connection, status=status, answer=body.decode() or "null")

        self._alone(write)

    def give_back(self) -> None:
        """The request was refused: the key is free again, unless the same request is still being carried out elsewhere."""

        def write(connection: Connection) -> None:
            self.store.lock(connection, f"once:{self.organization_id}:{self._key_sha256}")
            row = self._row(connection)
            if row is None or row.status != _PENDING or row.request_sha256 != self.request_sha256:
                return
            others = [token for token in json.loads(row.answer) if token != self.token]
            if others:
                self._update(connection, answer=json.dumps(others))
            else:
                connection.execute(delete(answers).where(self._mine))

        self._alone(write)

    def _alone(self, write: Callable[[Connection], None]) -> None:
        """Run a write that is no part of the request."""
        before, nobody = current.set(None), acting.set(None)
        try:
            self.store.write(write)
        finally:
            acting.reset(nobody)
            current.reset(before)

    def _reserve(self, connection: Connection) -> None:
        """The same request may come again while it is carried out, for it may be repeated: then it has several tokens."""
        self.store.lock(connection, f"once:{self.organization_id}:{self._key_sha256}")
        self._look(connection)
        row = self._row(connection)
        if row is None:
            self._insert(connection, _PENDING, json.dumps([self.token]))
            return
        tokens = json.loads(row.answer)
        if len(tokens) >= IN_FLIGHT_MAX:
            raise LimitExceededError(
                f"{IN_FLIGHT_MAX} requests with this idempotency key are still in progress; wait for them to finish"
            )
        if self.token not in tokens:
            self._update(connection, answer=json.dumps([*tokens, self.token]))

    @property
    def _mine(self) -> ColumnElement[bool]:
        return and_(answers.c.organization_id == self.organization_id, answers.c.key_sha256 == self._key_sha256)

    def _update(self, connection: Connection, **values: Any) -> None:
        connection.execute(update(answers).where(self._mine).values(**values))

    @property
    def _key_sha256(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()

    def _row(self, connection: Connection) -> Any:
        return connection.execute(select(answers).where(self._mine)).first()

    def _look(self, connection: Connection) -> None:
        row = self._row(connection)
        if row is None:
            return
        if row.request_sha256 != self.request_sha256:
            raise IdempotencyKeyReusedError()
        if row.status == _PENDING:
            return
        raise AnsweredError(row.status, json.loads(self._opened(row.answer) if row.sealed else row.answer))

    def _insert(self, connection: Connection, status: int, answer: str) -> None:
        sealed = self.effect is not None and self.effect.secret
        connection.execute(
            insert(answers).values(
                organization_id=self.organization_id,
                key_sha256=self._key_sha256,
                request_sha256=self.request_sha256,
                status=status,
                answer=self._sealed(answer) if sealed else answer,
                sealed=int(sealed),
                created_at=self.store.clock.now(),
            )
        )

    def _sealed(self, text: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher().encrypt(nonce, text.encode(), None)).decode()

    def _opened(self, text: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        raw = base64.b64decode(text)
        try:
            opened: bytes = self._cipher().decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)
        except InvalidTag as error:
            raise IdempotencyKeyReusedError(
                "the response to this idempotency key contains a secret, and only the API key that sent the first request can read it"
            ) from error
        return opened

    def _cipher(self) -> Any:
        """Its key comes from what the caller signs in with, of which only a hash is stored: the database alone opens nothing."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(hashlib.sha256(f"sublet answer\n{self.key}\n{self.secret}".encode()).digest())


current: ContextVar[Once | None] = ContextVar("once", default=None)
"""The request under an idempotency key that is being carried out, if there is one."""


def request_digest(method: str, path: str, query: str, body: bytes, attributes: Mapping[str, str] | None = None) -> str:
    """Hex SHA-256 of what was asked: JSON that says the same is the same, however it is spaced and ordered. `attributes` are
    the headers that are part of what is asked, as those of a CloudEvent in binary mode are."""
    try:
        said = json.dumps(json.loads(body), sort_keys=True).encode() if body.strip() else b""
    except (ValueError, RecursionError):
        said = body
    if said in (b"{}", b"null"):
        said = b""
    digest = hashlib.sha256()
    asked = json.dumps(sorted(attributes.items())).encode() if attributes else None
    for part in (method.encode(), path.encode(), query.encode(), said, *([asked] if asked else [])):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def forget(store: Transactions, now: datetime) -> int:
    """Delete answers that were kept long enough, at most FORGOTTEN_MAX of them; how many there were."""
    old = answers.c.created_at < now - KEPT

    def write(connection: Connection) -> int:
        rows = connection.execute(
            select(answers.c.organization_id, answers.c.key_sha256).where(old).limit(FORGOTTEN_MAX)
        ).all()
        for row in rows:
            connection.execute(
                delete(answers).where(
                    answers.c.organization_id == row.organization_id, answers.c.key_sha256 == row.key_sha256
                )
            )
        return len(rows)

    with store.read() as connection:
        if connection.execute(select(answers.c.key_sha256).where(old).limit(1)).first() is None:
            return 0
    return store.write(write)
