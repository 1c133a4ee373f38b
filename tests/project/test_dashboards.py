"""Grafana's dashboards and what they ask Prometheus. What they ask Postgres: integration/test_dashboard_panels.py."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grafana import DASHBOARDS, GRAFANA, board, columns_named, panels, variables
from tests.promql import (
    MINUTES,
    PROMETHEUS,
    ROOT,
    alerts,
    check_reads,
    expanded,
    grouped,
    known,
    needs_promtool,
    promtool,
    reads,
    samples,
)

COLUMNS = 24
SCHEMA = range(39, 42)
"""of Grafana 11 and 12"""
KINDS = {"prometheus": "expr", "usage": "rawSql"}
"""what a target of each source has"""


def name_of(path: Path) -> str:
    return path.stem


def sources() -> dict[str, str]:
    """Types of the sources that are provisioned, by uid."""
    said = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "datasources.yaml").read_text())
    return {one["uid"]: one["type"] for one in said["datasources"]}


def cells(body: dict[str, Any]) -> set[tuple[int, int]]:
    place = body["gridPos"]
    return {
        (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
    }


def family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_there_are_three_and_their_names_stay() -> None:
    assert {path.stem: board(path)["uid"] for path in DASHBOARDS} == {
        "fleet": "llm-gateway-fleet", "reliability": "llm-gateway-reliability", "usage": "llm-gateway-usage"
    }  # fmt: skip


@pytest.mark.parametrize("path", DASHBOARDS, ids=name_of)
def test_panels_have_ids_of_their_own_and_do_not_lie_on_each_other(path: Path) -> None:
    found = board(path)["panels"]
    assert len({body["id"] for body in found}) == len(found)
    for one, other in combinations(found, 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
    assert all(0 <= x < COLUMNS for body in found for x, _ in cells(body))
    assert board(path)["schemaVersion"] in SCHEMA


@pytest.mark.parametrize("path", DASHBOARDS, ids=name_of)
def test_a_panel_says_what_it_shows_in_which_unit_and_what_to_do(path: Path) -> None:
    for body in board(path)["panels"]:
        assert body["title"]
        if body["type"] != "row":
            assert body["description"].endswith("."), body["title"]
            assert body["fieldConfig"]["defaults"]["unit"], body["title"]
            assert body["targets"], body["title"]


def test_no_question_is_asked_twice_with_the_same_panel() -> None:
    asked = [(panel.body["type"], str(panel.targets)) for panel in panels()]
    assert len(set(asked)) == len(asked)


def test_every_source_is_one_that_is_provisioned() -> None:
    there_are = sources()
    used = [panel.body["datasource"] for panel in panels()]
    used += [one["datasource"] for path in DASHBOARDS for one in variables(path).values()]
    assert {(one["uid"], one["type"]) for one in used} == set(there_are.items())
    for panel in panels():
        assert all(KINDS[panel.body["datasource"]["uid"]] in target for target in panel.targets), panel.name


def test_provisioning_names_the_folders_and_secrets_that_compose_mounts() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "dashboards.yaml").read_text())["providers"][0]
    assert mounted[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    text = (GRAFANA / "provisioning" / "datasources" / "datasources.yaml").read_text()
    assert set(re.findall(r"/run/secrets/(\w+)", text)) <= set(service["secrets"])


def test_every_metric_and_label_that_a_panel_names_exists() -> None:
    there_are = known()
    asked = [expression for panel in panels() for expression in panel.expressions]
    assert len(asked) > 50
    for expression in asked:
        check_reads(expression, there_are)


def test_variables_ask_for_labels_that_exist() -> None:
    there_are = known()
    for path in DASHBOARDS:
        for one in variables(path).values():
            if one["datasource"]["uid"] == "prometheus":
                metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", one["query"]["query"]).groups()
                assert label in there_are[metric]
                assert one["allValue"] == ".*"


@pytest.mark.parametrize("path", DASHBOARDS, ids=name_of)
def test_variables_are_there_and_are_used(path: Path) -> None:
    asked = re.sub(r"\$__\w+", "", str([body.get("targets") for body in board(path)["panels"]]))
    assert set(re.findall(r"\$\{?([a-z_]+)", asked)) == set(variables(path))


def test_legends_name_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel.targets:
            named = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
            assert named <= grouped(target.get("expr", "")), panel.name


def test_settings_of_panels_speak_of_series_that_are_there() -> None:
    """A column of a table, the legend of a line, or what a legend of one label may say."""
    there_are = known()
    for panel in panels():
        if panel.expressions:
            names = {target["legendFormat"] for target in panel.targets} | {"Time", "Value", "__name__"}
            names |= set(there_are[reads(panel.expressions[0])[0].metric])
            names |= {"ok", "client_gone"} if "{{status}}" in names else set()
            assert set(columns_named(panel.body)) <= names, panel.name


def test_every_metric_is_shown_or_alerted_on() -> None:
    """A histogram by any of its series."""
    asked = [expression for panel in panels() for expression in panel.expressions]
    used = {read.metric for expression in asked + [one["expr"] for one in alerts()] for read in reads(expression)}
    there_are = {name for name in known() if ":" not in name}
    assert {family(name) for name in there_are} - {family(name) for name in used} == set()


def test_runbook_entries_that_panels_name_exist() -> None:
    headings = set(re.findall(r"^### (\w+)$", (ROOT / "deploy" / "runbook.md").read_text(), re.MULTILINE))
    for panel in panels():
        for said in re.findall(r"runbook, ([A-Z]\w+(?:(?:,| and) [A-Z]\w+)*)", panel.body["description"]):
            assert set(re.findall(r"[A-Z]\w+", said)) <= headings, panel.name


@needs_promtool
def test_prometheus_answers_every_panel_with_something(tmp_path: Path) -> None:
    """Asked of series of every metric that the code has."""
    asked = [expanded(expression) for panel in panels() for expression in panel.expressions]
    tests = [
        {
            "expr": f"count({one}) > bool 0",
            "eval_time": f"{MINUTES}m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for one in asked
    ]
    file = tmp_path / "panels_test.yml"
    case = {"interval": "1m", "input_series": samples(), "promql_expr_test": tests}
    file.write_text(yaml.safe_dump({"rule_files": [str(PROMETHEUS / "alerts.yml")], "tests": [case]}))
    promtool("test", "rules", file)
