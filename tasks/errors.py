"""Every error of the project, divided by what can be done about it.

LlmProxyError
├── SettingsError        the operator mends the environment and starts again
├── VaultError           the operator restores the vault key; until then work waits
├── CredentialGone       nothing brings it back: its requests are settled
├── ClientError          the caller mends its request (4xx in the OpenAI envelope)
│   ├── InvalidRequest       400
│   ├── MissingCredential    401
│   ├── InvalidToken         401
│   ├── WrongSignature       401
│   ├── NotForThisToken      403
│   ├── UnknownPath          404
│   ├── BodyTooSlow          408
│   ├── Replayed             409
│   ├── BodyTooLarge         413
│   ├── UnsupportedEncoding  415
│   ├── IdempotencyConflict  422
│   ├── LimitReached         429: of an access token
│   └── ClientTooHasty       504: its SDK gives up before a batch can be done
├── Unavailable          the caller tries again later (503 with Retry-After)
│   ├── StoreUnavailable     Redis is away or full
│   ├── TooManyWaiting       as many requests wait as may, here or in all
│   └── Draining             this process is being replaced
├── ClientGone           nobody is there any more to be told
├── DeadlineExceeded     the caller waited as long as is promised (504)
├── UpstreamError        the upstream did not do what was asked
│   ├── UpstreamRefused      it answered, and asking again will not help: the answer is final
│   ├── UpstreamLost         a relayed call broke off
│   └── UpstreamTrouble      it may do so later; `in_doubt` says that it may have done it already
└── NotOurTurn           another worker holds the lease: stop quietly
"""

from __future__ import annotations


class LlmProxyError(Exception):
    """Base of all errors that the project raises itself."""


class SettingsError(LlmProxyError):
    """A setting is missing, unknown or out of range."""


class VaultError(LlmProxyError):
    """A sealed credential cannot be opened with the configured vault keys."""


class CredentialGone(LlmProxyError):
    """A sealed credential is not in the store any more."""


class ClientError(LlmProxyError):
    """The caller's request cannot be served as it is.

    Attributes:
        status: HTTP status.
        type, code, param: the fields of the OpenAI error envelope.
    """

    status = 400
    type = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or self.code


class InvalidRequest(ClientError):
    """The body or a header does not make sense."""


class MissingCredential(ClientError):
    """There is no Authorization header."""

    status = 401
    code = "missing_api_key"


class InvalidToken(ClientError):
    """ACCESS_TOKENS_FILE does not know this token."""

    status = 401
    code = "invalid_api_key"


class NotForThisToken(ClientError):
    """An access token does not open this endpoint: it would show, or cost, what is not the caller's."""

    status = 403
    code = "not_for_this_token"


class LimitReached(ClientError):
    """An access token has used up what it may have.

    Attributes:
        retry_after_seconds: when there is something again.
    """

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, code: str | None = None, retry_after_seconds: float) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class WrongSignature(ClientError):
    """A webhook is not signed by one of WEBHOOK_SECRETS."""

    status = 401
    code = "invalid_signature"


class UnknownPath(ClientError):
    """A path of ours that the settings have not opened."""

    status = 404


class Replayed(ClientError):
    """A webhook event came before."""

    status = 409
    code = "event_replayed"


class BodyTooLarge(ClientError):
    """The body is over MAX_BODY_MB."""

    status = 413
    code = "request_too_large"


class UnsupportedEncoding(ClientError):
    """A body to be batched came compressed."""

    status = 415
    code = "unsupported_content_encoding"


class BodyTooSlow(ClientError):
    """The body trickles in, and its sender keeps a place from others."""

    status = 408
    code = "request_timeout"


class ClientTooHasty(ClientError):
    """The SDK counts its time until the whole body is there, and this is its last attempt."""

    status = 504
    type = "server_error"
    code = "client_timeout"


class IdempotencyConflict(ClientError):
    """The same Idempotency-Key came with another body."""

    status = 422
    code = "idempotency_key_reused"


class Unavailable(LlmProxyError):
    """Nothing was accepted; the same request may succeed later.

    Attributes:
        retry_after_seconds: when to try again.
        code: the `code` of the OpenAI error envelope.
    """

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(Unavailable):
    """Redis does not take what we give it."""

    code = "store_unavailable"


class TooManyWaiting(Unavailable):
    """MAX_WAITING requests wait already, or this process has no file left to hold a client with."""

    code = "too_many_waiting"


class Draining(Unavailable):
    """This process is shutting down; the request goes on and a retry finds it."""

    code = "draining"


class ClientGone(LlmProxyError):
    """The client closed its connection; its request goes on."""


class DeadlineExceeded(LlmProxyError):
    """REQUEST_DEADLINE_SECONDS passed without a reply."""


class UpstreamError(LlmProxyError):
    """Base of what goes wrong between us and the upstream."""


class UpstreamRefused(UpstreamError):
    """A definite answer that is not success.

    Attributes:
        status, body, headers: the upstream's answer, to be handed to the callers.
    """

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(f"the upstream answered {status}")
        self.status = status
        self.body = body
        self.headers = headers


class UpstreamLost(UpstreamError):
    """The upstream closed a relayed call's connection, or said what is not HTTP."""


class UpstreamTrouble(UpstreamError):
    """408, 409, 429, 5xx, a connection that failed, or an answer that made no sense.

    Attributes:
        in_doubt: the call may have taken effect although it was not answered.
        retry_after_seconds: what the upstream asked for, if it did.
        answer: what it said, if it said anything.
    """

    def __init__(
        self,
        message: str,
        *,
        in_doubt: bool,
        retry_after_seconds: float | None = None,
        answer: UpstreamRefused | None = None,
    ) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt
        self.retry_after_seconds = retry_after_seconds
        self.answer = answer


class NotOurTurn(LlmProxyError):
    """The batch or request is in another state, or somebody else holds its lease.

    Attributes:
        state: the state that it is in, "held" when somebody works on it.
    """

    def __init__(self, state: str = "held") -> None:
        super().__init__(state)
        self.state = state
