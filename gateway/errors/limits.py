"""What a key may not do now."""

from gateway.errors.base import GatewayError


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


class FailuresLimited(RateLimited):
    """Too many requests from this address had no valid key or secret. Try again after the seconds in Retry-After."""


class RequestsLimited(RateLimited):
    """This key is over its requests per minute. Try again after the seconds in Retry-After."""


class TokensLimited(RateLimited):
    """This key is over its tokens per minute. Try again after the seconds in Retry-After."""


class AllowanceHeld(RateLimited):
    """What is left of this key's allowance is reserved by its running calls. Try again when one of them has ended."""


class ConcurrencyLimited(RateLimited):
    """This key already runs as many calls at once as it may. Try again when one of them has ended."""
