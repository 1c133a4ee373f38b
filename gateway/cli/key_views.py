"""Keys as the terminal shows them."""

from typing import Any

from gateway.cli.amounts import plain
from gateway.cli.command import Options
from gateway.cli.limits import lines_of, short
from gateway.cli.moments import full, minute, since
from gateway.cli.table import record, table

HEAD = ("ID", "LABEL", "OWNER", "TIER", "TEAM", "STATE", "SECRET", "REQUESTS/MIN", "EXPIRES", "CREATED (UTC)")
UNUSED = "A secret that was never used is replaced; the one that is in use works on."
"""what rotating again does, so that an answer which was lost does no harm"""


def created(said: Any, options: Options) -> str:
    """The new secret on a line of its own, so that it can be taken from there."""
    about = f"id {said['id']}, label {said['label']}. {said.get('message', '')}".rstrip()
    if unseen(said):
        again = f"`llm-gateway keys rotate {said['id']}` puts another in its place"
        return f"{about}\nThat answer was lost on its way, and nobody has its secret: {again}. {UNUSED}"
    return f"{said['key']}\n\n{about}"


def unseen(said: Any) -> bool:
    """Whether the key was made, and its secret was lost with the first answer."""
    return not said["key"]


def listed(said: Any, options: Options) -> str:
    return table(HEAD, [_row(key) for key in said["data"]])


def shown(said: Any, options: Options) -> str:
    """All about one key."""
    return record(
        [
            ("id", said["id"]),
            ("label", said["label"]),
            ("owner", said["owner_email"]),
            ("state", state(said)),
            ("tier", said["tier"]),
            ("team", said["team_id"]),
            ("scopes", said["scopes"]),
            ("models", ", ".join(said["models"]) or "any"),
            ("networks", ", ".join(said["networks"]) or "any"),
            ("created", full(said["created_at"])),
            ("expires", full(said["expires_at"]) or "never"),
            ("secrets", secret_lines(said)),
            ("own limits", lines_of(said)),
            ("in force", lines_of(said["effective"])),
            ("credits", credits_of(said)),
        ]
    )


def revoked(said: Any, options: Options) -> str:
    return f"revoked {said['id']}, label {said['label']}"


def state(key: Any) -> str:
    """The word for it in tables; what cannot be undone comes first."""
    if key["revoked_at"]:
        return "revoked"
    if key["expired"]:
        return "expired"
    if not key["enabled"]:
        return "off"
    return "in shadow" if key["shadow"] else "works"


def credits_of(owner: Any) -> str:
    """Granted, charged and left, of a key or a team."""
    if not owner["metered"]:
        return "not counted"
    credits = owner.get("credits")
    if not credits:
        return "counted, but the gateway's Redis does not say how many are left"
    held = f", {plain(credits['held'])} held by running calls" if credits["held"] else ""
    return f"{plain(credits['balance'])} of {plain(credits['granted'])} left{held}"


def _row(key: Any) -> tuple[Any, ...]:
    return (
        key["id"],
        key["label"],
        key["owner_email"],
        key["tier"],
        key["team_id"],
        state(key),
        f"…{key['last_four']}",
        short(key["effective"]["rate_limit_per_min"]),
        since(key["expires_at"]),
        minute(key["created_at"]),
    )


def secret_lines(key: Any) -> list[str]:
    """Redis knows when each was used. It says nothing of credits that are counted only while it does not answer."""
    silent = key["metered"] and not key["credits"]
    unused = "last use not known" if silent else "no use known"
    return [_secret(one, unused) for one in key["secrets"]]


def _secret(secret: Any, unused: str) -> str:
    used = since(secret["last_used_at"])
    until = f", until {full(secret['expires_at'])}" if secret.get("expires_at") else ""
    made = f"…{secret['last_four']} of {minute(secret['created_at'])} UTC"
    return f"{made}, {f'used {used}' if used else unused}{until}"
