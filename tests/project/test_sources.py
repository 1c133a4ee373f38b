"""House rules that a linter does not know."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "workers", "sql")
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 70
READ_THE_ENVIRONMENT = {
    "gateway/cli/main.py",
    "gateway/cli/serve.py",  # what OpenTelemetry's SDK reads by itself is no setting of ours
    "gateway/dev/engines.py",
    "gateway/dev/postgres.py",
    "gateway/dev/stack.py",
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
TOP_LEVEL = {
    ".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "Containerfile", "LICENSE", "Makefile", "README.md",
    "compose.yaml", "deploy", "gateway", "pyproject.toml", "requirements-dev.txt", "requirements-local.txt",
    "requirements.txt", "sql", "tests", "workers",
}  # fmt: skip


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_a_module_is_short_named_after_a_noun_and_says_what_it_is(path: Path) -> None:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    assert path.stem not in FORBIDDEN_NAMES
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, node.name


def test_only_entry_points_read_the_environment() -> None:
    offenders = {name_of(path) for path in modules() if "os.environ" in path.read_text("utf-8")}
    assert offenders <= READ_THE_ENVIRONMENT, "read it once, in settings.load; pass the value on"


def test_sql_is_never_put_together_from_values() -> None:
    for path in modules():
        for call in re.findall(r"\.(?:execute|fetch|fetchval|fetchrow)\(\s*f[\"']", path.read_text("utf-8")):
            pytest.fail(f"{name_of(path)}: {call}")


def test_committed_files_hold_no_address_of_a_registry_and_no_path_of_a_machine() -> None:
    registries = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org", "--index-url")
    places = ("/work/" + "main", "/root/" + ".pyenv")
    for path in committed():
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".json" or path.name == Path(__file__).name:
            continue
        assert not [word for word in registries + places if word in text], name_of(path)


def test_the_top_level_is_the_agreed_one() -> None:
    assert {name_of(path).split("/")[0] for path in committed()} <= TOP_LEVEL


def committed() -> list[Path]:
    """What git tracks; all files where there is no checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]
