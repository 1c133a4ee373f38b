"""Nodes as operators see them: what is said of each, and how it stands as this replica last saw it."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from gateway.core import advisories, breaker
from gateway.core.breaker import Breaker
from gateway.core.fleet import Node
from gateway.core.routing import WHOLE_NODE, Backend
from gateway.web.admin.deps import AdminDeps

State = Literal["up", "down", "ejected", "draining", "refused", "new"]


class EjectedView(Struct, kw_only=True):
    """A model, or `*` for all of them, whose calls have failed too often. It is tried again in `seconds`."""

    model: str
    seconds: int
    failures: int
    ejections: int


class BackendView(Struct, kw_only=True):
    """A node. `source`: the setting OLLAMA_BASE_URL names it, or an operator has added it.

    `state` is `new` until this replica has asked it anything, `refused` when its Ollama is too old. `busy` counts the
    slots that calls of all replicas have taken. `models` says how many it has, `loaded` which are in its memory.
    `warnings` are known holes of its Ollama's version.
    """

    name: str
    url: str
    source: Literal["settings", "admin"]
    slots: int
    weight: int
    draining: bool
    tags: list[str]
    has_bearer: bool
    has_ca: bool
    state: State
    busy: int
    loading: str | None
    version: str | None
    warnings: list[str]
    models: int
    loaded: list[str]
    ejected: list[EjectedView]


class BackendList(Struct, kw_only=True):
    """Nodes by name."""

    data: list[BackendView]
    next: str | None


def shown(deps: AdminDeps, nodes: Sequence[Node]) -> list[BackendView]:
    seen = {backend.name: backend for backend in deps.fleet.snapshot()}
    breakers, settings, now_ms = deps.fleet.breakers(), deps.fleet.settings_names, deps.now_ms()
    return [
        view(node, seen.get(node.name), breakers.get(node.name, {}), node.name in settings, now_ms) for node in nodes
    ]


def view(
    node: Node, seen: Backend | None, breakers: Mapping[str, Breaker], in_settings: bool, now_ms: int
) -> BackendView:
    ejected = [
        EjectedView(
            model=model,
            seconds=max(0, math.ceil((one.until_ms - now_ms) / 1000)),
            failures=one.failures,
            ejections=one.ejections,
        )
        for model, one in sorted(breakers.items())
        if breaker.ejected(one)
    ]
    return BackendView(
        name=node.name,
        url=node.url,
        source="settings" if in_settings else "admin",
        slots=node.slots,
        weight=node.weight,
        draining=node.draining,
        tags=list(node.tags),
        has_bearer=bool(node.bearer),
        has_ca=bool(node.ca_pem),
        state=_state(node, seen, any(one.model == WHOLE_NODE for one in ejected)),
        busy=seen.busy if seen else 0,
        loading=seen.loading or None if seen else None,
        version=seen.version or None if seen else None,
        warnings=list(advisories.warnings(seen.version)) if seen else [],
        models=len(seen.models) if seen else 0,
        loaded=sorted(seen.loaded) if seen else [],
        ejected=ejected,
    )


def _state(node: Node, seen: Backend | None, ejected: bool) -> State:
    """In the order in which routing asks."""
    if seen is None or not seen.asked:
        return "new"
    if not seen.healthy:
        return "down"
    if seen.refused:
        return "refused"
    if node.draining:
        return "draining"
    return "ejected" if ejected else "up"
