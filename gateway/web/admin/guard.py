"""Who may use the admin API, on which port, and how often one may guess."""

from hashlib import sha256
from hmac import compare_digest
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.errors import AdminUnauthorized, RouteNotFound, ScopeMissing
from gateway.web.admin.deps import AdminDeps
from gateway.web.credentials import key_in

SECRET = "x-admin-secret"  # noqa: S105  the name of a header
OFF = "The admin API of this gateway is off: its operator has set no ADMIN_SECRET."
PULL = "pull"

Connection = ASGIConnection[Any, Any, Any, Any]


async def admins_only(connection: Connection, handler: BaseRouteHandler) -> None:
    """Raises `AdminUnauthorized`, or `FailuresLimited` after too many wrong secrets from an address."""
    deps: AdminDeps = connection.app.state.admin
    if is_elsewhere(connection.scope, deps.port):
        raise RouteNotFound
    if not deps.secrets:
        raise AdminUnauthorized(OFF)
    source = deps.door.source(connection.scope)
    await deps.failures.check(source)
    deps.failures.check_here(source)  # from here to the comparison nothing is waited for: guesses may come at once
    given = [secret for secret in connection.headers.getall(SECRET, []) if secret]
    if not given:
        raise AdminUnauthorized  # it is no guess, so it does not count as one
    if len(given) > 1 or not _is_one_of(given[0], deps.secrets):
        raise await deps.failures.failed(source, deps.failures.failed_here(source, AdminUnauthorized()))


async def pullers_only(connection: Connection, handler: BaseRouteHandler) -> None:
    """Admins, and holders of a key with the scope `pull`. Leaves the globs of models they may pull in the state."""
    deps: AdminDeps = connection.app.state.admin
    connection.state.models = ()
    secret = SECRET in connection.headers
    if secret or not (key_in(connection.scope["headers"]) or is_elsewhere(connection.scope, deps.port)):
        await admins_only(connection, handler)
        return
    statement = await deps.inspector.inspect(*deps.door.presented(connection.scope))
    if PULL not in statement.scopes:
        raise ScopeMissing
    connection.state.models = statement.models


def is_elsewhere(scope: Any, port: int) -> bool:
    """Whether the admin API has a port of its own, and this request came to another one."""
    server = scope.get("server")
    return bool(port) and (not server or server[1] != port)


def _is_one_of(given: str, secrets: tuple[str, ...]) -> bool:
    """Compares digests, with all of them, so that neither length nor content of a secret shows in the time it takes."""
    digest = sha256(given.encode()).digest()
    found = [compare_digest(digest, sha256(secret.encode()).digest()) for secret in secrets]
    return any(found)
