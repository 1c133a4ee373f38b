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

from gateway.errors.base import GatewayError, every_error
from gateway.errors.failures import (
    BackendBusy,
    BackendFault,
    BackendTimeout,
    BackendUnreachable,
    CallAbandoned,
    Draining,
    KeysNotLoaded,
    LeaseLost,
    LimitsUnavailable,
    NoBackend,
    Overloaded,
    ReplicaLost,
    SchemaMissing,
    StoreUnavailable,
    StreamBroken,
    Unavailable,
)
from gateway.errors.limits import (
    AllowanceHeld,
    ConcurrencyLimited,
    CreditsExhausted,
    MonthlyTokensExhausted,
    QuotaExceeded,
    RateLimited,
    RequestsLimited,
    TokensLimited,
)
from gateway.errors.requests import (
    AdminUnauthorized,
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    CloudBlocked,
    ContextExceeded,
    ContextNotAllowed,
    CostExceedsLimit,
    EncodingUnsupported,
    Forbidden,
    InvalidJson,
    KeyNotFound,
    LoadBlocked,
    MethodNotAllowed,
    ModelMissing,
    ModelNotFound,
    RegistryBlocked,
    RenderBlocked,
    RouteBlocked,
    RouteNotFound,
    Unauthorized,
    Unsupported,
)

__all__ = [
    "AdminUnauthorized",
    "AllowanceHeld",
    "BackendBusy",
    "BackendFault",
    "BackendTimeout",
    "BackendUnreachable",
    "BadRequest",
    "BodyTooLarge",
    "BodyTooSlow",
    "CallAbandoned",
    "CloudBlocked",
    "ConcurrencyLimited",
    "ContextExceeded",
    "ContextNotAllowed",
    "CostExceedsLimit",
    "CreditsExhausted",
    "Draining",
    "EncodingUnsupported",
    "Forbidden",
    "GatewayError",
    "InvalidJson",
    "KeyNotFound",
    "KeysNotLoaded",
    "LeaseLost",
    "LimitsUnavailable",
    "LoadBlocked",
    "MethodNotAllowed",
    "ModelMissing",
    "ModelNotFound",
    "MonthlyTokensExhausted",
    "NoBackend",
    "Overloaded",
    "QuotaExceeded",
    "RateLimited",
    "RegistryBlocked",
    "RenderBlocked",
    "ReplicaLost",
    "RequestsLimited",
    "RouteBlocked",
    "RouteNotFound",
    "SchemaMissing",
    "StoreUnavailable",
    "StreamBroken",
    "TokensLimited",
    "Unauthorized",
    "Unavailable",
    "Unsupported",
    "every_error",
]
