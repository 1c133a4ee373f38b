"""What is written for operators names only what there is: files, commands, settings, variables, metrics."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway.cli.main import _parser
from gateway.settings import FILE, FROM_FILES, NAMES, SettingsError, load
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.worker import WorkerMetrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGES = sorted(DEPLOY.rglob("*.md"))
TEXTS = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in [*PAGES, DEPLOY / "env.example"]}
COMPOSE = (ROOT / "compose.yaml").read_text("utf-8")
EXAMPLE = (DEPLOY / "env.example").read_text("utf-8")
EXPLAINED = dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE, re.MULTILINE))
OF_COMPOSE = {"COMPOSE_PROFILES"}
"""read by compose itself"""
FIRST_WORDS = "OLLAMA|REDIS|DATABASE|DEFAULT|QUEUE|KEY|ADMIN|USAGE|POSTGRES|GATEWAY|CONTEXT|OUTPUT|BODY|KEEP"
SETTING = rf"\b((?:{FIRST_WORDS})_[A-Z0-9_]*[A-Z0-9])\b"
"""What looks like the name of one of ours, or of Ollama's own."""
OF_OLLAMA = {"OLLAMA_HOST", "OLLAMA_NUM_PARALLEL", "OLLAMA_KEEP_ALIVE", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_NO_CLOUD"}
OF_SCRIPTS = r"\$\{?([A-Z][A-Z0-9_]*)"
"""variables that the shell scripts of deploy/ read"""


def parsers(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command with its parser, by the words that call it."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in cast(dict[str, argparse.ArgumentParser], action.choices).items():
                yield from parsers(one, *words, name)


COMMANDS = dict(parsers(_parser()))


def scripts() -> str:
    return "".join(
        path.read_text("utf-8") for path in DEPLOY.iterdir() if path.is_file() and path.suffix in ("", ".sh")
    )


@pytest.mark.parametrize("page", [path for path in PAGES if "decisions" not in path.parts], ids=lambda path: path.stem)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    local = [link.split("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_index_has_all_that_is_in_the_folder() -> None:
    linked = {link.split("/")[0] for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS["deploy/README.md"])}
    there = {path.name for path in DEPLOY.iterdir()} - {"README.md", "guides"}
    assert there <= linked
    assert {f"guides/{path.name}" for path in (DEPLOY / "guides").iterdir()} <= set(
        re.findall(r"\]\(([^)\s]+)\)", TEXTS["deploy/README.md"])
    )


def commands(text: str) -> list[list[str]]:
    """The words of each call of ours that a page shows: as code within a line, or in a line of commands."""
    within = re.findall(r"`llm-gateway ([^`]+)`", text)
    lines = re.findall(r"^ {4,}(?!.*(?:kubectl|git clone))(?:.*[ /])?llm-gateway ([a-z][^\n|;&]*)", text, re.MULTILINE)
    return [line.split("#")[0].split() for line in within + lines]


def test_every_command_of_ours_that_a_page_names_is_there_with_its_options() -> None:
    wrong = []
    assert sum(len(commands(text)) for text in TEXTS.values()) > 20
    for page, words in [(page, words) for page, text in TEXTS.items() for words in commands(text)]:
        most = max(n for n in range(len(words) + 1) if tuple(words[:n]) in COMMANDS)
        options = {option for action in COMMANDS[tuple(words[:most])]._actions for option in action.option_strings}
        if most == 0 or {word for word in words if re.fullmatch(r"--[a-z-]+", word)} - options:
            wrong.append((page, " ".join(words)))
    assert wrong == []


def test_every_target_of_make_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        one for text in TEXTS.values() for one in re.findall(r"`make ([a-z-]+)|^ +make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {a or b for a, b in named} <= targets
    assert "secrets" in targets


def test_every_script_that_a_page_names_is_there_and_can_be_run() -> None:
    named = {one for text in TEXTS.values() for one in re.findall(r"(?<![\w/.-])deploy/([a-z-]+)(?![\w/.-])", text)}
    paths = [DEPLOY / one for one in named if not (DEPLOY / one).is_dir()]
    assert [path.name for path in paths if not (path.is_file() and path.stat().st_mode & 0o111)] == []
    assert {"backup", "restore"} <= named


def test_every_setting_that_a_page_names_is_one() -> None:
    known = {*NAMES, *(name + FILE for name in FROM_FILES), *OF_OLLAMA, *EXPLAINED}
    known |= set(re.findall(OF_SCRIPTS, scripts())) | set(re.findall(r"^ +([A-Z_]+):", COMPOSE, re.MULTILINE))
    known |= set(re.findall(r"\$\{([A-Z_]+):-", (DEPLOY / "postgres/roles.sh").read_text("utf-8")))
    of_guides = {page: text for page, text in TEXTS.items() if page.startswith("deploy/guides/")}
    assert {name for text in of_guides.values() for name in re.findall(SETTING, text)} - known == set()


def test_every_metric_that_a_guide_names_is_told() -> None:
    told = {
        name + suffix
        for registry in (Metrics().registry, WorkerMetrics().registry)
        for name in _names(registry)
        for suffix in ("", "_total")
    }
    guides = [text for page, text in TEXTS.items() if page.startswith("deploy/guides/")]
    named = {one for text in guides for one in re.findall(r"`((?:gateway|gen_ai)_[a-z_]+)`", text)}
    users = {"gateway_owner", "gateway_app", "gateway_worker"}
    assert named - users <= told
    assert len(named - users) > 3


def _names(registry: CollectorRegistry) -> set[str]:
    return {metric.name for metric in registry.collect()}


def variables() -> set[str]:
    """All that compose.yaml takes from `.env`: by `${NAME}`, or by the bare name of a container's variable."""
    services = yaml.safe_load(COMPOSE)["services"]
    passed = {name for one in services.values() for name, value in _environment(one).items() if value is None}
    return set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) | passed


def _environment(service: dict[str, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], service.get("environment", {}))


def test_the_example_has_each_variable_of_compose_and_no_other() -> None:
    assert set(EXPLAINED) == variables() | OF_COMPOSE


def test_what_grafana_is_provisioned_with_is_handed_to_it() -> None:
    wanted = {
        name
        for path in (DEPLOY / "grafana" / "provisioning").rglob("*.yaml")
        for name in re.findall(r"\$__env\{(\w+)\}", path.read_text("utf-8"))
    }
    assert wanted
    assert wanted <= _environment(yaml.safe_load(COMPOSE)["services"]["grafana"]).keys()


def test_no_command_of_a_page_reads_a_file_of_the_host_in_a_container() -> None:
    """Nor does one that is fed, or whose output goes into a file, run on a terminal."""
    called = [line for text in TEXTS.values() for line in re.findall(r"docker compose exec ([^\n`]*)", text)]
    fed = [line for line in called if re.search(r" [<>] ", line)]
    assert len(fed) > 2
    assert [line for line in fed if not line.startswith("-T ")] == []
    assert [line for line in called if re.search(r"--(?:bearer-|ca-)?file (?!-(?: |$))", line)] == []


def test_settings_that_compose_passes_on_are_settings() -> None:
    of_ours = [one for one in yaml.safe_load(COMPOSE)["services"].values() if "llm-gateway" in one.get("image", "")]
    names = {name for one in of_ours for name in _environment(one)}
    assert names - {*NAMES, *(name + FILE for name in FROM_FILES)} == {n for n in names if n.startswith("OTEL_")}


def test_what_the_example_shows_is_the_default_and_its_secrets_are_refused() -> None:
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE))
    for name, shown in EXPLAINED.items():
        if name in defaults:
            assert (name, shown) == (name, defaults[name])
        elif name in FROM_FILES:
            with pytest.raises(SettingsError):
                load({"ADMIN_SECRET": "8a1f0c5d7e2b9463", name: shown})
        elif name in NAMES and shown and name != "OLLAMA_VERSION_MIN":
            assert load({name: shown}) == load({}), name
