"""README says what the code does: every table in it is compared with what it describes."""

import re
from pathlib import Path
from typing import get_type_hints

import msgspec
from litestar import Litestar
from litestar.routes import ASGIRoute

import sql
from gateway import errors
from gateway.app import Replica
from gateway.settings import FILE, FROM_FILES, NAMES, Settings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.worker import WorkerMetrics
from gateway.web.blocked import BLOCKED
from gateway.web.openapi import document
from gateway.web.routes import CALLS
from tests.fields import surfaces

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def table(heading: str, number: int = 0) -> list[list[str]]:
    """The rows of the first table below a heading, or of a later one, as cells without code marks at their ends."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    rows = [line.strip("| ").split(" | ") for line in tables[number].splitlines()]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def app() -> Litestar:
    return Replica(Settings()).app


def routes(of: Litestar) -> set[str]:
    """`METHOD /path` of everything routed. Bare handlers check the method themselves: all of them take POST."""
    found = set()
    for route in of.routes:
        path = re.sub(r":\w+}", "}", route.path_format if hasattr(route, "path_format") else route.path)
        methods = ["POST"] if isinstance(route, ASGIRoute) else sorted(getattr(route, "methods", []))
        found |= {f"{method} {path}" for method in methods if method not in ("OPTIONS", "HEAD")}
    return found


def test_every_route_is_listed_and_every_listed_route_is_there() -> None:
    listed = [row[0] for number in (0, 1) for row in table("Endpoints", number)]
    assert sorted(listed) == sorted(route for route in routes(app()) if "/docs/assets" not in route)


def test_every_blocked_route_is_listed_with_what_to_do_instead() -> None:
    listed = {row[0]: row[1] for row in table("Endpoints", 1)}
    assert listed == {
        f"{method.value} {re.sub(r':[a-z]+}', '}', one.path)}": one.words.replace("`", "")
        for one in BLOCKED
        for method in one.methods
        if method.value != "HEAD"
    }


def test_every_field_of_a_request_is_listed_with_its_fate() -> None:
    assert len(table("Request fields")) == sum(len(surface.fields) for surface in surfaces())
    listed = {(row[0], row[1]): (row[2].replace("`", ""), row[3].replace("`", "")) for row in table("Request fields")}
    assert listed == {
        (surface.route, field.name): (
            field.fate + (f" ({field.code})" if field.code else ""),
            field.note.replace("`", ""),
        )
        for surface in surfaces()
        for field in surface.fields
    }
    assert {surface.route for surface in surfaces()} == set(CALLS) - {"/v1/generate", "/generate"}


def test_the_openapi_document_describes_every_route_but_the_pages() -> None:
    paths = document("0")["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    pages = {"GET /docs", "GET /redoc", "GET /openapi.json"}
    assert described == {row[0] for number in (0, 1) for row in table("Endpoints", number)} - pages
    assert all(one["operationId"] and one["summary"] for path in paths.values() for one in path.values())
    assert set(CALLS) < set(paths)


def test_every_setting_is_listed_with_its_default_and_meaning() -> None:
    hints = get_type_hints(Settings, include_extras=True)
    expected = []
    for field in msgspec.structs.fields(Settings):
        meaning = next(meta.description for meta in hints[field.name].__metadata__ if meta.description)
        expected.append([field.encode_name, _text(field.default), meaning.replace("`", "")])
    listed = [[row[0], row[1] if len(row) == 3 else "", row[-1].replace("`", "")] for row in table("Settings")]
    assert listed == expected
    assert [row[0] for row in listed] == list(NAMES)


def test_every_setting_that_may_come_from_a_file_is_listed() -> None:
    section = README.split("## Settings\n", 1)[1].split("\n|", 1)[0]
    assert re.findall(r"`([A-Z_]+_FILE)`", section) == [name + FILE for name in FROM_FILES]


def test_every_error_is_listed() -> None:
    first: dict[tuple[str, str], str] = {}
    for error in errors.every_error():
        first.setdefault((str(error.status), error.code), " ".join((error.__doc__ or "").split()))
    listed = {(row[0], row[1]): row[2].replace("`", "") for row in table("Errors")}
    assert listed == {place: words.replace("`", "") for place, words in first.items()}


def test_every_metric_is_listed() -> None:
    kept = Metrics().registry.collect()
    names = {metric.name + ("_total" if metric.type == "counter" else ""): metric.documentation for metric in kept}
    assert {row[0]: row[1] for row in table("Metrics")} == names
    of_worker = WorkerMetrics().registry.collect()
    names = {one.name + ("_total" if one.type == "counter" else ""): one.documentation for one in of_worker}
    assert {row[0]: row[1] for row in table("Metrics", 1)} == names


def test_every_view_is_listed() -> None:
    views = re.findall(r"^CREATE VIEW (dashboard\.\w+) AS$", sql.schema(), re.MULTILINE)
    assert sorted(row[0] for row in table("Usage")) == sorted(views)


def test_the_make_targets_and_links_it_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make ([\w-]+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile, target
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def _text(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
