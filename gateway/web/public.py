"""The routes that are not calls: what this service is, how it is, what a key has left."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from litestar import Request, Response, get, route
from litestar.enums import HttpMethod
from msgspec import Struct

from gateway.admin.usage import OwnUse
from gateway.core import pricing
from gateway.core.call import Account, Level, Statement
from gateway.core.routing import WHOLE_NODE, Backend
from gateway.ports import Fleet, Inspector, Library
from gateway.telemetry.metrics import CONTENT_TYPE, Metrics
from gateway.web import headers, own_use
from gateway.web.body import Intake
from gateway.web.credentials import Door
from gateway.web.own_use import DayUsed, ModelUsed, OwnUses

CHECK_S = 1.0
LOOKS = (HttpMethod.GET, HttpMethod.HEAD)
"""health checks and Ollama's clients may ask for the head alone"""
KEY: list[dict[str, list[str]]] = [{"BearerKey": []}, {"HeaderKey": []}]


class PublicDeps(Struct, frozen=True, kw_only=True):
    """What these routes need. The checks raise when their part is away; `gauges` brings the metrics up to date."""

    inspector: Inspector
    own_uses: OwnUses
    door: Door
    fleet: Fleet
    library: Library
    intake: Intake
    metrics: Metrics
    gauges: Callable[[], None]
    snapshot: Callable[[], list[Backend]]
    draining: Callable[[], bool]
    keys_loaded: Callable[[], Awaitable[bool]]
    database: Callable[[], Awaitable[object]]
    version: str


class Info(Struct):
    name: str
    version: str
    docs: str
    reference: str
    openapi: str


class Health(Struct):
    status: Literal["ok"]


class Readiness(Struct, kw_only=True):
    """What a replica depends on. Only Redis, its keys and draining decide."""

    ready: bool
    draining: bool
    redis: Literal["ok", "away"]
    keys: Literal["loaded", "loading", "unknown"]
    postgres: Literal["ok", "away"]
    backends: dict[str, Literal["up", "down", "ejected"]]


class Window(Struct):
    """A limit per minute: what is left now, and in how many seconds it is whole again."""

    limit: int
    left: int
    reset_seconds: float


class Month(Struct, kw_only=True):
    month: str
    limit: int | None
    spent: int
    held: int


class Credits(Struct, kw_only=True):
    """Granted ever less charged ever is the balance; `held` of it is reserved by running calls."""

    balance: float
    held: float
    granted: float
    charged: float


class Running(Struct):
    limit: int | None
    now: int


class ModelReport(Struct):
    """What the limits of the calls to some models leave; `models` is a glob of their names."""

    models: str
    requests_per_min: Window | None
    tokens_per_min: Window | None


class AccountReport(Struct, kw_only=True):
    """What a key or a team may do and has used. null: no such limit."""

    requests_per_min: Window | None
    tokens_per_min: Window | None
    model_limits: list[ModelReport]
    monthly_tokens: Month
    credits: Credits | None
    concurrency: Running
    would_refuse: dict[str, int]
    """of limits in shadow: how many calls they would have refused, by reason"""


class TeamReport(AccountReport, kw_only=True):
    """What all keys of a team share."""

    team_id: str


class UsageReport(AccountReport, kw_only=True):
    """The limits of a key and, where it is in one, of its team: a call has to fit both.

    `by_day`, `by_model`: what the key has used this month, a second or two behind; null while the database is away.
    """

    key_id: str
    team: TeamReport | None
    by_day: list[DayUsed] | None
    by_model: list[ModelUsed] | None


Requested = Request[Any, Any, Any]


def deps_of(request: Requested) -> PublicDeps:
    deps: PublicDeps = request.app.state.public
    return deps


@route("/", http_method=LOOKS, sync_to_thread=False)
def info(request: Requested) -> Info:
    return Info("LLM Gateway", deps_of(request).version, "/docs", "/redoc", "/openapi.json")


@route("/health", http_method=LOOKS, sync_to_thread=False)
def health() -> Health:
    return Health("ok")


@route("/ready", http_method=LOOKS)
async def ready(request: Requested) -> Response[Readiness]:
    deps = deps_of(request)
    redis, database = await asyncio.gather(_within(deps.keys_loaded()), _within(deps.database()))
    answers = not isinstance(redis, Exception)
    draining = deps.draining()
    state = Readiness(
        ready=redis is True and not draining,
        draining=draining,
        redis="ok" if answers else "away",
        keys="loaded" if redis is True else "loading" if answers else "unknown",
        postgres="away" if isinstance(database, Exception) else "ok",
        backends={backend.name: _state(backend) for backend in deps.snapshot()},
    )
    return Response(state, status_code=200 if state.ready else 503)


def _state(backend: Backend) -> Literal["up", "down", "ejected"]:
    """An ejected one answers probes, and gets no calls all the same."""
    if not backend.healthy:
        return "down"
    return "ejected" if WHOLE_NODE in backend.ejected else "up"


@get("/metrics", operation_id="metrics", summary="Prometheus metrics", tags=["service"], sync_to_thread=False)
def metrics(request: Requested) -> Response[bytes]:
    deps = deps_of(request)
    deps.gauges()
    # a header and not a media type: to that Litestar would add the charset once more
    return Response(deps.metrics.expose(), headers={"content-type": CONTENT_TYPE})


@get("/v1/usage", operation_id="usage", summary="What this key has used and has left", tags=["usage"], security=KEY)
async def usage(request: Requested) -> Response[UsageReport]:
    deps = deps_of(request)
    credential, source = deps.door.presented(request.scope)
    statement = await deps.inspector.inspect(credential, source)
    more = {name.decode(): value.decode() for name, value in headers.of_levels(statement.levels)}
    use = await deps.own_uses.of(credential.key_id, statement.month)
    return Response(report(credential.key_id, statement, use), headers=more)


def report(key_id: str, statement: Statement, use: OwnUse | None) -> UsageReport:
    """A statement as its key's holder, or an operator, reads it."""
    shared = statement.team
    team = None if shared is None else TeamReport(team_id=statement.team_id, **_account(statement.month, shared))
    return UsageReport(
        key_id=key_id,
        team=team,
        by_day=own_use.by_day(use),
        by_model=own_use.by_model(use),
        **_account(statement.month, statement.key),
    )


def team_report(team_id: str, month: str, account: Account) -> TeamReport:
    return TeamReport(team_id=team_id, **_account(month, account))


def _account(month: str, account: Account) -> dict[str, Any]:
    return {
        "requests_per_min": _window(account.levels.requests),
        "tokens_per_min": _window(account.levels.tokens),
        "model_limits": [
            ModelReport(one.models, _window(one.levels.requests), _window(one.levels.tokens)) for one in account.models
        ],
        "monthly_tokens": Month(
            month=f"{month[:4]}-{month[4:]}",
            limit=account.monthly_tokens,
            spent=account.tokens_spent,
            held=account.tokens_held,
        ),
        "credits": credits_of(account),
        "concurrency": Running(account.concurrency, account.running),
        "would_refuse": account.shadow,
    }


def credits_of(account: Account) -> Credits | None:
    """None: none are counted."""
    if account.granted_micro is None:
        return None
    return Credits(
        balance=pricing.credits(account.granted_micro - account.charged_micro),
        held=pricing.credits(account.credit_held_micro),
        granted=pricing.credits(account.granted_micro),
        charged=pricing.credits(account.charged_micro),
    )


def _window(level: Level | None) -> Window | None:
    return None if level is None else Window(level.limit, level.left, level.reset_ms / 1000)


async def _within(check: Awaitable[object]) -> object:
    """What the check says, or the reason it says nothing."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await check
    except Exception as error:
        return error


HANDLERS = (info, health, ready, metrics, usage)
