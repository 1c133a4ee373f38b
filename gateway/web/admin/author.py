"""Who asks for a change: the names that requests to the admin API carry, and the id that each is given."""

import re
from hashlib import sha256
from typing import Any

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.admin.author import Author
from gateway.errors import BadRequest
from gateway.web.admin.deps import AdminDeps, Requested

ACTOR, ACTOR_CHARS_MAX = "x-admin-actor", 64
IDEMPOTENCY_KEY = "idempotency-key"
ADMIN = "admin"
"""who does not say who it is"""
REQUEST_ID = b"x-request-id"
IDEMPOTENCY_KEY_CHARS_MAX = 200
_VISIBLE = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_CHARS_MAX}}}")


class Numbered(ASGIMiddleware):
    """Gives each request an id before anything is done, so that the audit log and the answer have the same one."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        deps: AdminDeps = scope["litestar_app"].state.admin
        request_id = deps.new_id()
        scope["state"]["request_id"] = request_id

        async def numbered(message: Any) -> None:
            if message["type"] == "http.response.start":
                others = [header for header in message["headers"] if header[0].lower() != REQUEST_ID]
                message["headers"] = [*others, (REQUEST_ID, request_id.encode())]
            await send(message)

        await next_app(scope, receive, numbered)


async def author_of(request: Requested) -> Author:
    """Raises `BadRequest` for names that no log should have to show."""
    key = request.headers.get(IDEMPOTENCY_KEY, "") if request.method == "POST" else ""
    if key and not _VISIBLE.fullmatch(key):
        raise BadRequest(f"An Idempotency-Key has up to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters.")
    asked = f"{request.method} {request.scope['path']}\n".encode() + await request.body()
    return Author(
        name=_name(request.headers.get(ACTOR, "")),
        request_id=request.scope["state"]["request_id"],
        idempotency_key=key,
        fingerprint=sha256(asked).hexdigest() if key else "",
    )


def _name(header: str) -> str:
    try:
        name = header.encode("latin-1").decode().strip()
    except UnicodeDecodeError:
        raise BadRequest("X-Admin-Actor is no UTF-8 text.") from None
    if len(name) > ACTOR_CHARS_MAX or not name.isprintable():
        raise BadRequest(f"X-Admin-Actor has up to {ACTOR_CHARS_MAX} printable characters.")
    return name or ADMIN
