"""What a client did wrong, or may not do."""

from gateway.errors.base import GatewayError


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
    """This prompt alone is larger than a limit of the key: waiting is no use. Shorten it."""

    code = "cost_exceeds_limit"


class Unauthorized(GatewayError):
    """This gateway does not know that API key. Send a valid one as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    status, code = 401, "invalid_api_key"


class KeyRevoked(Unauthorized):
    """This API key was revoked while its call ran. What had been delivered is charged."""

    code = "key_revoked"


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


class RenderBlocked(Forbidden):
    """Rendered prompts stay here, for they hold a model's own system text. Leave out `_debug_render_only`."""

    code = "render_blocked"


class CloudBlocked(Forbidden):
    """That model runs on ollama.com: prompts would leave this site. The operator may allow it (ALLOW_CLOUD_MODELS)."""

    code = "cloud_model_blocked"


class RegistryBlocked(Forbidden):
    """Models may not be pulled from that registry (setting PULL_REGISTRIES)."""

    code = "registry_blocked"


class AddressNotAllowed(Forbidden):
    """This API key may not be used from the address that this request comes from."""

    code = "address_not_allowed"


class ScopeMissing(Forbidden):
    """This API key may not be used for that. Ask the operator of this gateway for one that may."""

    code = "scope_missing"


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


class TeamNotFound(GatewayError):
    """There is no team with that id."""

    status, code = 404, "team_not_found"


class TierNotFound(GatewayError):
    """There is no tier with that name."""

    status, code = 404, "tier_not_found"


class PriceNotFound(GatewayError):
    """There is no price with that id."""

    status, code = 404, "price_not_found"


class BackendNotFound(GatewayError):
    """There is no backend with that name. GET /admin/backends lists those there are."""

    status, code = 404, "backend_not_found"


class AliasNotFound(GatewayError):
    """There is no alias with that name. GET /admin/aliases lists those there are."""

    status, code = 404, "alias_not_found"


class Conflict(GatewayError):
    """What is there already forbids this change."""

    status, code = 409, "conflict"


class IdempotencyMismatch(Conflict):
    """Another request came with this Idempotency-Key. Send a new key with every new request."""

    code = "idempotency_mismatch"


class BodyTooSlow(GatewayError):
    """The body did not arrive in time."""

    status, code = 408, "body_too_slow"


class BodyTooLarge(GatewayError):
    """The body is larger than this gateway takes (setting BODY_BYTES_MAX)."""

    status, code = 413, "body_too_large"


class EncodingUnsupported(GatewayError):
    """This gateway takes bodies as they are: leave out Content-Encoding."""

    status, code = 415, "encoding_unsupported"
