"""`llm-gateway keys`: create, list and revoke API keys through the admin API of a running gateway."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway.cli.table import table
from gateway.dev.home import ADMIN_SECRET, Home
from gateway.dev.places import url_of
from gateway.settings import Settings, SettingsError

HELP = "create, list and revoke API keys (needs a running gateway and its admin secret)"
WAIT_S = 15.0
PAGES_MAX = 10_000
UNLIMITED = "unlimited"


def _tokens(text: str) -> int | str:
    """A number of tokens, or that there is no limit."""
    return UNLIMITED if text == UNLIMITED else int(text)


def _credits(text: str) -> float:
    """A finite number."""
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


LIMITS: dict[str, tuple[Callable[[str], Any], str]] = {
    "rate-limit-per-min": (int, "requests a minute (default: DEFAULT_RATE_LIMIT_PER_MIN)"),
    "tokens-per-min": (int, "tokens a minute (default: unlimited)"),
    "monthly-token-limit": (_tokens, f"tokens a month (UTC), or `{UNLIMITED}` (default: DEFAULT_MONTHLY_TOKEN_LIMIT)"),
    "credits": (_credits, "credits in all; every successful call costs one (default: none are counted)"),
    "concurrency": (int, "calls at once (default: unlimited)"),
}
COLUMNS = ("id", "label", "owner_email", "enabled", "last_four", "rate_limit_per_min", "created_at")


class Refused(Exception):
    """The gateway said no, or nothing at all; the message is for the person at the keyboard."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Manage API keys over HTTP. The admin secret is ADMIN_SECRET or the one that `up` has saved in DATA_DIR; "
        "the gateway is the one that `up` runs there, or HOST and PORT."
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--url", help="where the gateway is (default: http://HOST:PORT)")
    shared.add_argument("--json", action="store_true", help="print the gateway's answer as JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", parents=[shared], help="create a key and show it, once")
    create.add_argument("--label", required=True, help="what the key is for")
    create.add_argument("--owner-email", help="whom to ask about it")
    for name, (kind, about) in LIMITS.items():
        create.add_argument(f"--{name}", type=kind, metavar="N", help=about)
    actions.add_parser("list", parents=[shared], help="show all keys, newest first")
    revoke = actions.add_parser("revoke", parents=[shared], help="make a key useless, at once and for good")
    revoke.add_argument("id", metavar="ID", help="the key's id, as `list` shows it")


def run(options: argparse.Namespace, settings: Settings) -> int:
    home = Home(Path(settings.data_dir))
    secret = settings.admin_secret or home.secret(ADMIN_SECRET)
    if not secret:
        raise SettingsError([f"ADMIN_SECRET is not set and {home.path} holds none: keys needs the admin secret"])
    url = options.url or home.running_url() or url_of(settings.host, settings.port)
    try:
        answer = _ACTIONS[options.action](Admin(url.rstrip("/"), secret), options)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2, ensure_ascii=False) if options.json else _text(options.action, answer))
    return 0


class Admin:
    """The admin API at `url`."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._headers = {"X-Admin-Secret": secret}

    def ask(self, method: str, path: str, **kwargs: Any) -> Any:
        """What the gateway answers, decoded. Raises `Refused`."""
        import httpx

        try:
            with httpx.Client(base_url=self._url, headers=self._headers, timeout=WAIT_S, trust_env=False) as client:
                answer = client.request(method, f"/admin/api-keys{path}", **kwargs)
                said = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Refused(f"no gateway answers at {self._url} ({type(error).__name__}): is it running?") from None
        except ValueError:
            raise Refused(f"what answers at {self._url} is not this gateway") from None
        if answer.is_error:
            raise Refused(str(said["error"]["message"] if "error" in said else said))
        return said


def _create(admin: Admin, options: argparse.Namespace) -> Any:
    limits = [name.replace("-", "_") for name in LIMITS]
    body = {name: value for name in ("label", "owner_email", *limits) if (value := getattr(options, name)) is not None}
    body |= {name: None for name in limits if body.get(name) == UNLIMITED}
    return admin.ask("POST", "", json=body)


def _list(admin: Admin, options: argparse.Namespace) -> Any:
    page = admin.ask("GET", "")
    rows = list(page["data"])
    for _ in range(PAGES_MAX):
        if not (after := page.get("next")):
            break
        page = admin.ask("GET", "", params={"after": after})
        rows += page["data"]
    return {"data": rows}


def _revoke(admin: Admin, options: argparse.Namespace) -> Any:
    return admin.ask("DELETE", f"/{quote(options.id, safe='')}")


_ACTIONS = {"create": _create, "list": _list, "revoke": _revoke}


def _text(action: str, answer: Any) -> str:
    if action == "create":
        return f"{answer['key']}\n\nid {answer['id']}, label {answer['label']}. {answer.get('message', '')}"
    if action == "revoke":
        return f"revoked {answer.get('id', 'the key')}" if isinstance(answer, dict) else "revoked"
    rows = [tuple("-" if key.get(name) in (None, "") else str(key[name]) for name in COLUMNS) for key in answer["data"]]
    return table([name.upper() for name in COLUMNS], rows)
