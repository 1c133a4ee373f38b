"""The admin API of a running gateway, as commands ask it."""

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from msgspec import Struct

from gateway.cli.refused import Refused, refusal
from gateway.dev.home import ADMIN_SECRET, Home
from gateway.dev.places import url_of
from gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    import httpx

WAIT_S = 15.0
PAGE_ROWS = 500
ROWS_MAX = 100_000
"""of one list; what lies beyond is not fetched, and the answer's `next` says so"""
ACTOR_CHARS_MAX = 64
TRIES = 2
OK = 200


class Answer(Struct, frozen=True):
    """What the gateway said: a status below 400 and the decoded JSON."""

    status: int
    said: Any


class Admin:
    """The admin API. `actor` is who the audit log will name; `secret_from` says where the secret was found."""

    def __init__(self, url: str, secret: str, actor: str = "", secret_from: str = "") -> None:
        self.url = url.rstrip("/")
        self._secret_from = secret_from
        self._headers = {"X-Admin-Secret": secret, **({"X-Admin-Actor": actor} if actor else {})}

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        wait_s: float = WAIT_S,
    ) -> Answer:
        """One request below /admin; repeated once when its answer was lost. Raises `Refused`.

        A POST has a key of its own, by which the gateway knows the repetition and does nothing twice.
        """
        import httpx

        headers = self._headers | ({"Idempotency-Key": uuid4().hex} if method == "POST" else {})
        try:
            with httpx.Client(base_url=self.url, headers=headers, timeout=wait_s, trust_env=False) as client:
                params = {name: value for name, value in (query or {}).items() if value is not None}
                request = client.build_request(method, f"/admin{path}", json=body, params=params)
                return self._read(_sent(client, request))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise Refused(f"no gateway answers at {self.url} ({type(error).__name__}): is it running?") from None
        except httpx.HTTPError as error:
            words = f"the connection to {self.url} was lost ({type(error).__name__})"
            if method == "GET":
                raise Refused(words) from None
            unknown = "whether it was done is unknown, look before you repeat it"
            raise Refused(f"{words}: {unknown}", unsure=True) from None

    def pages(self, path: str, query: Mapping[str, Any], rows_max: int = ROWS_MAX) -> Answer:
        """A whole list as one page, up to `rows_max` of it. Raises `Refused`."""
        rows: list[Any] = []
        after = None
        while len(rows) < rows_max:
            limit = min(PAGE_ROWS, rows_max - len(rows))
            page = self.ask("GET", path, query={**query, "after": after, "limit": limit}).said
            if not isinstance(page.get("data"), list):
                raise Refused(self._stranger())
            rows += page["data"]
            after = page.get("next")
            if not after:
                break
        return Answer(OK, {"data": rows, "next": after})

    def _read(self, answer: "httpx.Response") -> Answer:
        try:
            said = answer.json()
        except ValueError:
            said = None
        if answer.is_error and said is not None:
            raise refusal(answer.status_code, said, answer.headers.get("retry-after"), self._secret_from)
        if not isinstance(said, dict):
            raise Refused(self._stranger(), unsure=answer.is_server_error)
        return Answer(answer.status_code, said)

    def _stranger(self) -> str:
        return f"what answers at {self.url} is not this gateway"


def connect(url: str | None, settings: Settings) -> Admin:
    """The gateway at `url`, or the one that `up` runs in DATA_DIR, or the one on HOST and its admin port.

    Raises `SettingsError` when there is no admin secret to show it.
    """
    home = Home(Path(settings.data_dir))
    secret, secret_from = _secret(settings, home)
    here = url_of(settings.host, settings.admin_port or settings.port)
    return Admin(url or home.running_admin_url() or here, secret, actor(), secret_from)


def actor() -> str:
    """Who is logged in; "" where nobody can tell."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return ""
    return "".join(char for char in name if char.isascii() and char.isprintable()).strip()[:ACTOR_CHARS_MAX]


def _secret(settings: Settings, home: Home) -> tuple[str, str]:
    """The admin secret, and where it was found. Raises `SettingsError`."""
    if settings.admin_secret:
        return settings.admin_secret, "ADMIN_SECRET, from the environment or .env"
    file = home.path / ADMIN_SECRET
    try:
        secret = home.secret(ADMIN_SECRET)
    except UnicodeDecodeError:
        raise SettingsError([f"{file} is not text: it should hold the admin secret"]) from None
    if not (secret.isascii() and secret.isprintable()):
        raise SettingsError([f"{file} holds no admin secret: one is of printable ASCII characters"])
    if not secret:
        raise SettingsError([f"ADMIN_SECRET is not set and {home.path} holds none: this needs the admin secret"])
    return secret, f"that of {file}"


def path_of(*parts: str) -> str:
    """A path of parts, each of which may hold anything."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _sent(client: "httpx.Client", request: "httpx.Request") -> "httpx.Response":
    """The answer. Raises httpx' own errors once the last try has failed.

    An answer that was lost stays lost where the repetition finds nobody: the first may have been carried out.
    """
    import httpx

    lost = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError, httpx.ReadTimeout)
    first: httpx.HTTPError | None = None
    for _ in range(TRIES - 1):
        try:
            return client.send(request)
        except lost as error:
            first = error
    try:
        return client.send(request)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise first or error from None
