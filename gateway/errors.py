"""Everything that can go wrong, worded once.

GatewayError
├── BadRequest 400            ├── ModelNotAllowed 400 ...   the client's own mistake
├── Unauthorized 401          said only when Redis holds the whole key set
├── Forbidden 403             what a gateway in front of Ollama keeps to itself
├── QuotaExceeded 429         money or the month is used up: waiting does not help
├── RateLimited 429           waiting helps: carries Retry-After
├── BackendFault 502/504      a model server failed; carries whether another one may be tried
└── Unavailable 503           a part of this gateway is missing for the moment

A class's docstring is its message unless the raiser has something more exact to say. `code` is stable and is what
programs should look at; `dialects/` renders each error in the client's own format.
"""

from collections.abc import Iterator
from typing import Any, ClassVar


class GatewayError(Exception):
    """The gateway failed in a way nobody planned for. Its operator finds it in the log."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retry_after_s: int | None = None
    """Whole seconds, rounded up, after which the same request can succeed; None where waiting does not help."""
    levels: Any = None
    """`core.call.Levels` of the key, where a limit's verdict came with them"""

    elsewhere: bool = False
    """whether the same request may succeed on another backend, as long as nothing of an answer was sent"""
    param: str | None = None
    """the field of the request that is to blame, where it is one"""

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_s: int | None = None,
        elsewhere: bool | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))
        self.param = param
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        if elsewhere is not None:
            self.elsewhere = elsewhere

    @property
    def message(self) -> str:
        return str(self.args[0])


class BadRequest(GatewayError):
    """The gateway could not make sense of this request."""

    status, code = 400, "invalid_request"


class InvalidJson(BadRequest):
    """The body is not valid JSON."""

    code = "invalid_json"


class ModelMissing(BadRequest):
    """The request names no model. Put one of the names from GET /v1/models into `model`."""

    code = "model_required"


class Unsupported(BadRequest):
    """The request asks for something that Ollama, or this gateway, does not do."""

    code = "unsupported"


class ContextNotAllowed(BadRequest):
    """The request asks for a larger context than this gateway allows (setting CONTEXT_TOKENS_MAX)."""

    code = "context_not_allowed"


class ContextExceeded(BadRequest):
    """The prompt is longer than the model's context. Shorten it or choose a model with a larger context."""

    code = "context_length_exceeded"


class CostExceedsLimit(BadRequest):
    """This call alone is larger than a limit of the key: waiting is no use. Shorten the prompt or lower max_tokens."""

    code = "cost_exceeds_limit"


class Unauthorized(GatewayError):
    """This gateway does not know that API key. Send a valid one as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    status, code = 401, "invalid_api_key"


class AdminUnauthorized(GatewayError):
    """The admin API of this gateway wants the admin secret in the header X-Admin-Secret."""

    status, code = 401, "invalid_admin_secret"


class Forbidden(GatewayError):
    """This gateway does not do that for anybody."""

    status, code = 403, "forbidden"


class RouteBlocked(Forbidden):
    """This gateway keeps that part of Ollama to itself: it could change, copy or give away the models of its nodes."""

    code = "route_blocked"


class LoadBlocked(Forbidden):
    """An empty prompt would only load or unload a model, for everybody: ordinary keys may not. Send a prompt."""

    code = "load_blocked"


class CloudBlocked(Forbidden):
    """That model runs on ollama.com: prompts would leave this site. The operator may allow it (ALLOW_CLOUD_MODELS)."""

    code = "cloud_model_blocked"


class RegistryBlocked(Forbidden):
    """Models may not be pulled from that registry (setting PULL_REGISTRIES)."""

    code = "registry_blocked"


class RouteNotFound(GatewayError):
    """This gateway has no such route. GET /docs lists those it has."""

    status, code = 404, "route_not_found"


class MethodNotAllowed(GatewayError):
    """This route of the gateway does not take that method. GET /docs lists those it takes."""

    status, code = 405, "method_not_allowed"


class ModelNotFound(GatewayError):
    """No backend behind this gateway has that model. GET /v1/models lists those there are."""

    status, code = 404, "model_not_found"
    elsewhere = True


class KeyNotFound(GatewayError):
    """There is no API key with that id."""

    status, code = 404, "key_not_found"


class BodyTooSlow(GatewayError):
    """The body did not arrive in time."""

    status, code = 408, "body_too_slow"


class BodyTooLarge(GatewayError):
    """The body is larger than this gateway takes (setting BODY_BYTES_MAX)."""

    status, code = 413, "body_too_large"


class EncodingUnsupported(GatewayError):
    """This gateway takes bodies as they are: leave out Content-Encoding."""

    status, code = 415, "encoding_unsupported"


class QuotaExceeded(GatewayError):
    """This key's allowance is used up."""

    status, code = 429, "insufficient_quota"


class CreditsExhausted(QuotaExceeded):
    """This key has no credits left for this call. Ask the operator of this gateway for more."""


class MonthlyTokensExhausted(QuotaExceeded):
    """This key's monthly tokens are used up. They are renewed at the start of the next calendar month (UTC)."""


class RateLimited(GatewayError):
    """This key is over one of its limits. Try again after the seconds in Retry-After."""

    status, code = 429, "rate_limit_exceeded"
    retry_after_s = 1


class RequestsLimited(RateLimited):
    """This key is over its requests per minute. Try again after the seconds in Retry-After."""


class TokensLimited(RateLimited):
    """This key is over its tokens per minute. Try again after the seconds in Retry-After."""


class AllowanceHeld(RateLimited):
    """What is left of this key's allowance is reserved by its running calls. Try again when one of them has ended."""


class ConcurrencyLimited(RateLimited):
    """This key already runs as many calls at once as it may. Try again when one of them has ended."""


class BackendFault(GatewayError):
    """The model server behind this gateway failed."""

    status, code = 502, "backend_failed"


class BackendUnreachable(BackendFault):
    """The model server behind this gateway could not be reached."""

    code = "backend_unreachable"
    elsewhere = True


class StreamBroken(BackendFault):
    """The model server stopped before its answer was complete."""

    code = "stream_broken"


class BackendTimeout(BackendFault):
    """The model server behind this gateway took too long."""

    status, code = 504, "backend_timeout"


class Unavailable(GatewayError):
    """A part of this gateway is away for the moment. Nothing was charged; try again shortly."""

    status, code = 503, "unavailable"
    retry_after_s = 5


class LimitsUnavailable(Unavailable):
    """The gateway cannot check keys and limits at the moment. Nothing was charged; try again shortly."""

    code = "limits_unavailable"


class KeysNotLoaded(LimitsUnavailable):
    """The gateway is still reading its keys back. Nothing was charged; try again shortly."""

    code = "keys_not_loaded"


class NoBackend(Unavailable):
    """No model server behind this gateway answers at the moment. Nothing was charged; try again shortly."""

    code = "no_backend"


class BackendBusy(Unavailable):
    """The model servers behind this gateway are busy. Nothing was charged; try again shortly."""

    code = "backend_busy"
    elsewhere = True
    retry_after_s = 2


class StoreUnavailable(Unavailable):
    """The gateway's database does not answer. Calls go on; keys cannot be read or changed. Try again shortly."""

    code = "store_unavailable"


class SchemaMissing(StoreUnavailable):
    """The gateway's database has no schema yet: its operator has to run `llm-gateway migrate`."""

    code = "schema_missing"


class Overloaded(Unavailable):
    """This replica runs as many calls as it can. Nothing was charged; try again shortly."""

    code = "overloaded"
    retry_after_s = 2


class Draining(Unavailable):
    """This replica is shutting down. Try again: another one will answer."""

    code = "draining"
    retry_after_s = 1


class LeaseLost(Unavailable):
    """This replica was out of touch with the limits for so long that the call was taken for dead, settled and ended."""

    code = "lease_lost"
    retry_after_s = 1


class CallAbandoned(GatewayError):
    """The client left before the answer was complete."""

    status, code = 499, "client_gone"


class ReplicaLost(GatewayError):
    """The replica that served this call died; its lease was settled with the last count it had reported."""

    status, code = 500, "replica_lost"


def every_error(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """The whole tree, depth first, `root` included. For tables, documents and the tests that compare them."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
