"""Limits as fields beside others, in what operators send and in what they read. Pure."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.core import names
from gateway.core.limits import (
    MODEL_LIMITS_MAX,
    Concurrency,
    Glob,
    Limits,
    ModelLimits,
    MonthlyTokens,
    PerMinute,
    said,
)
from gateway.errors import BadRequest

INHERIT: Literal["inherit"] = "inherit"
Inherit = Literal["inherit"]
ModelLimitsGiven = Annotated[dict[Glob, ModelLimits], Meta(max_length=MODEL_LIMITS_MAX)]
NAMES: tuple[str, ...] = Limits.__struct_fields__


class LimitFields(Struct, kw_only=True, forbid_unknown_fields=True):
    """Limits. Left out: as it is; null: unlimited; "inherit": the tier decides, or the gateway's default.

    `burst`, how many requests may come at once, is never unlimited: null is a minute's worth of them.
    """

    rate_limit_per_min: PerMinute | Inherit | UnsetType | None = UNSET
    burst: PerMinute | Inherit | UnsetType | None = UNSET
    tokens_per_min: PerMinute | Inherit | UnsetType | None = UNSET
    concurrency: Concurrency | Inherit | UnsetType | None = UNSET
    monthly_token_limit: MonthlyTokens | Inherit | UnsetType | None = UNSET
    model_limits: ModelLimitsGiven | Inherit | UnsetType = UNSET


class OwnLimits(Struct, kw_only=True):
    """What one says itself of its limits, as it could be sent again. null: unlimited, of `burst` a minute's worth."""

    rate_limit_per_min: int | Inherit | None
    burst: int | Inherit | None
    tokens_per_min: int | Inherit | None
    concurrency: int | Inherit | None
    monthly_token_limit: int | Inherit | None
    model_limits: dict[str, ModelLimits] | Inherit


class LimitsInForce(Struct, kw_only=True):
    """What is so in the end. null: unlimited, of `burst` a minute's worth."""

    rate_limit_per_min: int | None
    burst: int | None
    tokens_per_min: int | None
    concurrency: int | None
    monthly_token_limit: int | None
    model_limits: dict[str, ModelLimits]


def changed(own: Limits, given: LimitFields) -> Limits:
    """`own` with what is given. Raises `BadRequest` for a glob that is none."""
    found = said(own)
    for name in NAMES:
        value = getattr(given, name)
        if value == INHERIT:
            found.pop(name, None)
        elif name == "model_limits" and value is not UNSET:
            found[name] = {glob: msgspec.to_builtins(one) for glob, one in _by_glob(value).items()}
        elif value is not UNSET:
            found[name] = value
    return msgspec.convert(found, Limits)


def own(limits: Limits) -> dict[str, Any]:
    """The fields of `OwnLimits`."""
    return {name: INHERIT if (value := getattr(limits, name)) is UNSET else value for name in NAMES}


def in_force(limits: Limits) -> dict[str, Any]:
    """The fields of `LimitsInForce`."""
    found = {name: None if (value := getattr(limits, name)) is UNSET else value for name in NAMES}
    return found | {"model_limits": found["model_limits"] or {}}


def effective(limits: Limits) -> dict[str, Any]:
    """The same, with the burst that counts: a minute's worth where none is said, none without a limit."""
    found = in_force(limits)
    per_min = found["rate_limit_per_min"]
    return found | {"burst": (found["burst"] or per_min) if per_min else None}


def globs(given: list[str], param: str) -> tuple[str, ...]:
    """Each glob once, in its one spelling. Raises `BadRequest`."""
    return tuple(dict.fromkeys(_glob(one, param) for one in given))


def _by_glob(given: dict[str, ModelLimits]) -> dict[str, ModelLimits]:
    found = {_glob(glob, "model_limits"): one for glob, one in given.items()}
    if len(found) < len(given):
        raise BadRequest("Two of these names are the same model's.", param="model_limits")
    return found


def _glob(text: str, param: str) -> str:
    glob = names.glob(text)
    if glob is None:
        raise BadRequest("Write models as llama3.2:3b, or as a glob such as llama3*.", param=param)
    return glob
