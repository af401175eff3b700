"""The client: a thin shell around `core` that waits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sublet.client.calls import Calls
from sublet.client.core import (
    Answer,
    NoAnswerError,
    Request,
    answer_of,
    document_of,
    pause_s,
    plain_request,
    request_for,
)
from sublet.client.operations import OPERATIONS
from sublet.client.paging import ROWS_PER_PAGE, following
from sublet.client.transport import TIMEOUT_S, StandardTransport, Transport, checked_url
from sublet.values.errors import InvalidInputError, UnavailableError


def headers_for(key: str) -> dict[str, str]:
    """What every request carries. Raises InvalidInputError for what can be no key."""
    if not key or not (key.isascii() and key.isprintable()):
        raise InvalidInputError(
            "the key contains characters that are not allowed in a key; copy it exactly as it was shown"
        )
    return {"Authorization": f"Bearer {key}"}


def unreachable(url: str, error: NoAnswerError) -> UnavailableError:
    """Nobody at the address, or nobody any more, or nobody who is trusted."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        reason = re.sub(r".*certificate verify failed: | \(_ssl\.c.*", "", str(error))
        return UnavailableError(
            f"the certificate of {url} is not trusted ({reason}); if its authority is your own, name its ca.pem with"
            " `sublet login --ca-file` or SUBLET_CA_FILE"
        )
    return UnavailableError(
        f"Sublet does not answer at {url} ({error}); start it with `sublet up` or check the address"
    )


class Client(Calls):
    """A Sublet at `url`, asked with `key`: `client.fleet.list_pools()`, one method for each operation.

    Answers are of the API's types where it has them, else plain dicts. Every method raises the service's own error by its code
    (`sublet.values.errors`), and UnavailableError where no Sublet answers. Requests that may be repeated are tried again, up
    to four times in all. One thread at a time.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        transport: Transport | None = None,
        timeout_s: float = TIMEOUT_S,
        ca_file: str = "",
    ) -> None:
        """`ca_file` has the certificates (PEM) of the authorities to trust instead of this machine's. Raises InvalidInputError for
        what can be no address, no key or no such file."""
        self.url = checked_url(url, "the address")
        headers = headers_for(key)
        self._transport = (
            transport if transport is not None else StandardTransport(self.url, headers, timeout_s, ca_file)
        )
        super().__init__(self.call)

    def call(self, operation_id: str, *arguments: str, **options: Any) -> Any:
        """Carry out an operation by its id. `options`: `body`, `query` (a dict), `idempotency_key`, `content_type`,
        `if_match` (an ETag)."""
        operation = OPERATIONS[operation_id]
        return answer_of(operation, self.ask(request_for(operation, arguments, **options)), self.url)

    def tagged(self, operation_id: str, *arguments: str, **options: Any) -> tuple[Any, str]:
        """The answer with its ETag, to give to what changes it as `if_match`; empty where it has none."""
        operation = OPERATIONS[operation_id]
        answer = self.ask(request_for(operation, arguments, **options))
        return answer_of(operation, answer, self.url), answer.headers.get("etag", "")

    def document(
        self, operation_id: str, *arguments: str, progress: Callable[[int], None] | None = None, **options: Any
    ) -> dict[str, Any]:
        """The same with the answer as the JSON that came, for what prints it. `progress` is told how many bytes of the body have
        been sent."""
        request = replace(request_for(OPERATIONS[operation_id], arguments, **options), progress=progress)
        found: dict[str, Any] = document_of(self.ask(request), self.url)
        return found

    def collected(self, operation_id: str, *arguments: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every page of a list as one document, for what prints it whole."""
        rows = OPERATIONS[operation_id].items
        whole: dict[str, Any] = {}
        after: str | None = None
        while True:
            wanted = {**(query or {}), "limit": ROWS_PER_PAGE, "after": after}
            page = self.document(operation_id, *arguments, query=wanted)
            whole = {**page, rows: [*whole.get(rows, []), *page[rows]]}
            after = following(after, page["next"])
            if after is None:
                del whole["next"]
                return whole

    def bytes(self, operation_id: str, *arguments: str, **options: Any) -> Iterator[bytes]:
        """The same with the answer in parts as it comes, for what is large."""
        request = request_for(OPERATIONS[operation_id], arguments, **options)
        try:
            answer, parts = self._transport.stream(request)
            if not 200 <= answer.status < 300:
                document_of(answer, self.url)
            yield from parts
        except NoAnswerError as error:
            raise unreachable(self.url, error) from error

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The JSON document at a path."""
        found: dict[str, Any] = document_of(self.ask(plain_request("GET", path, query=query)), self.url)
        return found

    def text(self, path: str, **query: Any) -> str:
        """The body at a path as it came, such as a page."""
        answer = self.ask(plain_request("GET", path, query=query))
        if not 200 <= answer.status < 300:
            document_of(answer, self.url)
        return answer.body.decode(errors="replace")

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Post a JSON document to a path."""
        request = plain_request("POST", path, body if body is not None else {}, idempotency_key=idempotency_key)
        found: dict[str, Any] = document_of(self.ask(request), self.url)
        return found

    def ask(self, request: Request) -> Answer:
        """The answer to a request, tried again where that is sound. Raises UnavailableError where none comes."""
        tried = 0
        while True:
            tried += 1
            outcome: Answer | NoAnswerError
            try:
                outcome = self._transport.send(request)
            except NoAnswerError as error:
                outcome = error
            pause = pause_s(request, tried, outcome)
            if pause is not None:
                time.sleep(pause)
            elif isinstance(outcome, NoAnswerError):
                raise unreachable(self.url, outcome) from outcome
            else:
                return outcome

    def once(self, request: Request) -> Answer:
        """The answer to a request that is tried once, for who has no time to wait. Raises NoAnswerError."""
        return self._transport.send(request)

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
