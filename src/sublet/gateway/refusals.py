"""Why the gateway refuses or fails a request. The codes are those that OpenAI's clients know, where there is one."""

from __future__ import annotations

from typing import ClassVar

from sublet.values.errors import (
    ConflictError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    SubletError,
    UnauthenticatedError,
    UnavailableError,
)


class InvalidApiKeyError(UnauthenticatedError):
    """Incorrect API key: it is missing, unknown, expired or revoked; send a valid one as `Authorization: Bearer`
    or `x-api-key`."""

    code = "invalid_api_key"


class UnknownAccessKeyError(UnauthenticatedError):
    """The access key id is unknown, expired or revoked, or has no secret access key; create a key and sign with the
    signing_secret that it shows."""

    code = "unknown_access_key"


class SignatureMismatchError(UnauthenticatedError):
    """The signature does not fit the request; check the secret access key, and that no proxy changes the host, the path,
    or the signed headers."""

    code = "signature_mismatch"


class ClockSkewError(UnauthenticatedError):
    """The signature is older or newer than five minutes; set the clock of the client and sign again."""

    code = "clock_skew"


class IncompleteSignatureError(UnauthenticatedError):
    """The signature lacks something; the message names what."""

    code = "incomplete_signature"


class InvalidRequestError(InvalidInputError):
    """The request can't be used as it is; the message names the field and what to write instead."""

    code = "invalid_request"


class ContextLengthError(InvalidInputError):
    """The prompt and the answer do not fit the model's context; shorten the prompt or ask for fewer tokens."""

    code = "context_length_exceeded"


class ModelNotFoundError(NotFoundError):
    """There is no such model; GET /v1/models lists the available models."""

    code = "model_not_found"


class ResponseNotFoundError(NotFoundError):
    """There is no such stored response: it was not stored, has expired, or was deleted; send the earlier items in input."""

    code = "response_not_found"


class StoredFileNotFoundError(NotFoundError):
    """There is no such file: it has expired, was deleted, or belongs to another project; GET /v1/files lists your files."""

    code = "file_not_found"


class FileInUseError(ConflictError):
    """A batch that is not over reads this file; wait until it is over, or cancel it."""

    code = "file_in_use"


class BatchNotFoundError(NotFoundError):
    """There is no such batch; GET /v1/batches lists your batches."""

    code = "batch_not_found"


class BatchOverError(ConflictError):
    """The batch is over, so it can't be canceled; GET /v1/batches/ID tells how it ended."""

    code = "batch_over"


class StorageQuotaError(LimitExceededError):
    """The organization has as many files or as many bytes of files as it may keep; delete some with DELETE /v1/files/ID."""

    code = "storage_quota_exceeded"


class ResponseCanceledError(ConflictError):
    """The response was canceled; send the request again to get another one."""

    code = "response_canceled"


class ResponseOverError(ConflictError):
    """The response is over, so it can't be canceled; GET /v1/responses/ID returns it."""

    code = "response_over"


class ConversationTooLongError(InvalidInputError):
    """The conversation is too long to be continued by previous_response_id; send what matters of it in input."""

    code = "conversation_too_long"


class RouteNotFoundError(NotFoundError):
    """There is no such route; the message lists those that there are."""

    code = "route_not_found"


class MethodNotAllowedError(InvalidInputError):
    """This route does not support this method; the Allow header lists the methods that it supports."""

    code = "method_not_allowed"
    status = 405


class UnsupportedEncodingError(InvalidInputError):
    """The body's Content-Encoding is not supported; send the body uncompressed or with gzip."""

    code = "unsupported_encoding"
    status = 415


class BodyTooLargeError(InvalidInputError):
    """The request's body is too large; send a smaller one."""

    code = "body_too_large"
    status = 413


def too_large(bytes_max: int) -> BodyTooLargeError:
    """The refusal of a body of more than `bytes_max` bytes."""
    shown = f"{bytes_max / 1048576:.0f} MiB" if bytes_max >= 1048576 else f"{bytes_max} bytes"
    return BodyTooLargeError(f"The request's body is larger than {shown}; send a smaller one")


class HeadersTooLargeError(InvalidInputError):
    """The request's headers are too large; send fewer or shorter ones."""

    code = "headers_too_large"
    status = 431


class ReceiveTimeoutError(InvalidInputError):
    """The request did not arrive in time; send it again, faster."""

    code = "request_timeout"
    status = 408


class RateLimitError(LimitExceededError):
    """This key's limit is reached; try again after the time in Retry-After."""

    code = "rate_limit_exceeded"
    standing: tuple[int, int, int] | None = None
    """Requests a minute, those left, and seconds until all are there again, where it is they that are used up."""


class LimitUnreachableError(UnavailableError):
    """A limit covers this key, and what is left of it cannot be read at the moment; try again after the time in Retry-After."""

    code = "limit_unreachable"


class InsufficientQuotaError(LimitExceededError):
    """A budget or the prepaid credit has not enough left for the most that this request may cost; ask for fewer tokens with
    max_tokens, wait for the budget's next period, or have it raised."""

    code = "insufficient_quota"


class BudgetUnreachableError(UnavailableError):
    """A budget covers this key, and what is left of it cannot be read at the moment; try again after the time in Retry-After."""

    code = "budget_unreachable"


class QueueFullError(UnavailableError):
    """All slots of this model are in use and its queue is full; try again after the time in Retry-After."""

    code = "queue_full"


class QueueTimeoutError(UnavailableError):
    """No slot of this model became free in time; try again after the time in Retry-After."""

    code = "queue_timeout"


class NoReplicaError(UnavailableError):
    """No replica of this model is running or starting now; try again after the time in Retry-After."""

    code = "no_replica"


class ServerFullError(UnavailableError):
    """The gateway has reached its limit of connections or bytes in progress; try again after the time in Retry-After."""

    code = "server_full"


class StoppingError(UnavailableError):
    """The gateway is stopping; try again after the time in Retry-After."""

    code = "stopping"


class JournalError(UnavailableError):
    """Usage cannot be recorded, so requests are refused: the disk with the gateway's journal is full or failing."""

    code = "journal_unwritable"


class RequestTooLargeError(InvalidInputError):
    """The model's server does not accept a request of this size; send a smaller one."""

    code = "request_too_large"
    status = 413


class UnprocessableRequestError(InvalidInputError):
    """The model's server can't use the request as it is; the message has its reason."""

    code = "unprocessable_request"
    status = 422


class EngineError(SubletError):
    """The engine returned an unexpected answer; try again."""

    code = "engine_error"
    status = 502
    kind: ClassVar[str] = "failed"
    """The word for the operator's log and metrics."""
    unreachable = False
    engine_status = 0
    """What the engine answered; 0 where it did not."""
    said = ""
    """Its own words, for the operator."""


class EngineFailedError(EngineError):
    """The engine failed to answer; try again."""

    code = "engine_failed"


class EngineUnreachableError(EngineError):
    """The engine cannot be reached; try again."""

    code = "engine_unreachable"
    kind = "connect"
    unreachable = True


class EngineMisconfiguredError(EngineError):
    """The server of this model refuses this service: that is not your key or your request, and the operator can see why. Use
    another model meanwhile."""

    code = "engine_misconfigured"
    kind = "configuration"


class EngineTimeoutError(EngineError):
    """The engine did not answer in time; try again, or ask for fewer tokens."""

    code = "engine_timeout"
    status = 504
    kind = "timeout"


class EngineBusyError(EngineError):
    """The model's server is not accepting more requests; try again after the time in Retry-After."""

    code = "engine_busy"
    status = 429
    kind = "busy"


class EngineOverloadedError(EngineError):
    """The model's server is overloaded or still starting; try again after the time in Retry-After."""

    code = "engine_overloaded"
    status = 503
    kind = "overloaded"


class EngineDownError(NoReplicaError):
    """No server of this model is answering requests; try again after the time in Retry-After."""

    code = "engine_down"


class EngineAnswerTooLargeError(SubletError):
    """The engine's answer is larger than the gateway relays in one piece; ask for it as a stream."""

    code = "answer_too_large"
    status = 502
