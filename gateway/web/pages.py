"""The documentation pages, served from this machine: nothing is fetched from anywhere else."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from litestar import MediaType, Response, get
from litestar.params import FromPath

from gateway.errors import RouteNotFound

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; font-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)
_ASSETS = {
    "swagger_bundle.js": "text/javascript",
    "swagger_style.css": "text/css",
    "redoc.js": "text/javascript",
    "docs.js": "text/javascript",
}
_OWN = frozenset({"docs.js"})


@get("/docs", include_in_schema=False, sync_to_thread=False)
def docs_page() -> Response[str]:
    return _page("docs.html")


@get("/redoc", include_in_schema=False, sync_to_thread=False)
def redoc_page() -> Response[str]:
    return _page("redoc.html")


@get("/docs/assets/{name:str}", include_in_schema=False, sync_to_thread=True)
def asset(name: FromPath[str]) -> Response[bytes]:
    """Swagger UI and ReDoc, out of the installed `offapi` package; never imported, for that would load all of it."""
    if name not in _ASSETS:
        raise RouteNotFound
    folder = _own_files() if name in _OWN else _package_folder("offapi")
    return Response(
        (folder / name).read_bytes(),
        media_type=f"{_ASSETS[name]}; charset=utf-8",
        headers={"cache-control": "public, max-age=86400", "x-content-type-options": "nosniff"},
    )


def _page(name: str) -> Response[str]:
    return Response(
        (_own_files() / name).read_text("utf-8"),
        media_type=MediaType.HTML,
        headers={"content-security-policy": _PAGE_POLICY, "x-content-type-options": "nosniff"},
    )


def _own_files() -> Path:
    return Path(str(files("gateway.web") / "static"))


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise RouteNotFound
    return Path(spec.submodule_search_locations[0])
