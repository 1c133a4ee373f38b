"""The routes of nodes."""

from functools import partial

from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody

from gateway.core.fleet import Node
from gateway.errors import BackendNotFound, Conflict
from gateway.web.admin import backend_fields, backend_views, force
from gateway.web.admin.author import author_of
from gateway.web.admin.backend_fields import ChangeBackend, CreateBackend
from gateway.web.admin.backend_views import BackendList, BackendView
from gateway.web.admin.deps import AdminDeps, Requested, deps_of
from gateway.web.admin.query import PAGE, Limit, Removed

OF_SETTINGS = "The setting OLLAMA_BASE_URL names this backend: take it out of there, or drain it."


class BackendController(Controller):
    path = "/backends"

    @post("/")
    async def create(self, request: Requested, data: JSONBody[CreateBackend]) -> BackendView:
        deps, by = deps_of(request), await author_of(request)
        made = await deps.backends.add(by, backend_fields.made(data), _of_settings(deps).values())
        await force.put(deps.publisher.fleet())
        return _shown(deps, made.what)

    @get("/")
    async def listed(self, request: Requested, after: FromQuery[str | None] = None, limit: Limit = PAGE) -> BackendList:
        deps = deps_of(request)
        found = [node for node in await _all(deps) if node.name > (after or "")]
        page = found[:limit]
        return BackendList(data=backend_views.shown(deps, page), next=page[-1].name if len(found) > limit else None)

    @get("/{name:str}")
    async def read(self, request: Requested, name: FromPath[str]) -> BackendView:
        deps = deps_of(request)
        for node in await _all(deps):
            if node.name == name:
                return _shown(deps, node)
        raise BackendNotFound

    @patch("/{name:str}")
    async def change(self, request: Requested, name: FromPath[str], data: JSONBody[ChangeBackend]) -> BackendView:
        deps, by = deps_of(request), await author_of(request)
        edit = partial(backend_fields.changed, given=data)
        node = await deps.backends.change(by, name, edit, _of_settings(deps).get(name))
        await force.put(deps.publisher.fleet())
        return _shown(deps, node)

    @delete("/{name:str}", status_code=200)
    async def remove(self, request: Requested, name: FromPath[str]) -> Removed:
        """Of a node that the settings name, only what operators say of it."""
        deps, by = deps_of(request), await author_of(request)
        try:
            await deps.backends.remove(by, name)
        except BackendNotFound:
            if name in deps.fleet.settings_names:
                raise Conflict(OF_SETTINGS) from None
            raise
        await force.put(deps.publisher.fleet())
        return Removed(name)


def _of_settings(deps: AdminDeps) -> dict[str, Node]:
    return {node.name: node for node in deps.fleet.nodes() if node.name in deps.fleet.settings_names}


async def _all(deps: AdminDeps) -> list[Node]:
    """Every node by name. Of one that has a row, the row: a replica may be half a second behind."""
    rows = {node.name: node for node in await deps.backends.all()}
    found = _of_settings(deps) | rows
    return [found[name] for name in sorted(found)]


def _shown(deps: AdminDeps, node: Node) -> BackendView:
    (view,) = backend_views.shown(deps, [node])
    return view
