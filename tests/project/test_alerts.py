"""Alerts: each is asked rightly, fires when it should and not otherwise, and has an entry in the runbook."""

import re
from typing import Any

import yaml

from gateway import errors
from tests.promql import PROMETHEUS, ROOT, alerts, check_reads, known, needs_promtool, promtool, rules

SEVERITIES = {"critical", "warning"}
RUNBOOK = (ROOT / "deploy" / "runbook.md").read_text("utf-8")
FINE = {"ok", "client_gone"}


def cases() -> list[dict[str, Any]]:
    """What alerts_test.yml asks about, in order."""
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    return [case for test in tests for case in test["promql_expr_test"]]


def labels_of(sample: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', sample))


def codes_in(metric: str) -> set[str]:
    """The codes that a recorded rule chooses."""
    expression = next(rule["expr"] for rule in rules() if rule.get("record") == metric)
    return set(re.search(r'code=~"([^"]*)"', expression)[1].split("|"))


@needs_promtool
def test_promtool_finds_nothing_wrong() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "alerts.yml")


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_each_alert_is_seen_to_fire_and_seen_not_to() -> None:
    names = {alert["alert"] for alert in alerts()}
    asked = [(labels_of(case["expr"]).get("alertname"), bool(case.get("exp_samples"))) for case in cases()]
    assert {name for name, fires in asked if name and fires} == names
    assert {name for name, fires in asked if name and not fires} == names
    assert sum(case["expr"] == "ALERTS" and not case.get("exp_samples") for case in cases()) >= 3


def test_what_is_well_has_a_series_of_every_metric_that_an_alert_reads() -> None:
    well = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"][0]
    there = " ".join(one["series"] for one in well["input_series"])
    asked = {name for alert in alerts() for name in re.findall(r"\b(?:gateway|gen_ai)_\w+", alert["expr"])}
    assert {name for name in asked - {"gen_ai_request_model"} if f"{name}{{" not in there} == {
        "gateway_backend_ejected",
        "gateway_recycled_total",
    }  # fmt: skip  those are not there at all while all is well


def test_every_metric_and_label_exists() -> None:
    there_are = known()
    for rule in rules():
        check_reads(rule["expr"], there_are)


def test_every_error_of_the_services_own_is_a_fault_or_says_that_it_is_busy() -> None:
    of_5xx = {error.code for error in errors.every_error() if error.status >= 500}
    faults, busy = codes_in("gateway:faults:rate5m"), codes_in("gateway:turned_away:rate5m")
    assert faults | busy == of_5xx
    assert not faults & busy
    assert codes_in("gateway:served:rate5m") == FINE


def test_codes_that_alerts_look_for_exist() -> None:
    codes = {error.code for error in errors.every_error()} | FINE
    for alert in alerts():
        for found in re.findall(r'(?:code|status)="(\w+)"', alert["expr"]):
            assert found in codes, alert["alert"]


def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() -> None:
    firing = {labels_of(one["labels"])["alertname"]: labels_of(one["labels"]) for one in samples()}
    for alert in alerts():
        said, name = alert["annotations"], alert["alert"]
        assert alert["labels"]["severity"] in SEVERITIES
        assert set(said) == {"summary", "description", "runbook"}
        assert said["description"].endswith(".")
        assert said["runbook"] == f"deploy/runbook.md#{name.lower()}"
        used = re.findall(r"\$labels\.(\w+)", said["summary"] + said["description"])
        assert set(used) <= set(firing[name]), f"{name} has no such label when it fires"


def samples() -> list[dict[str, Any]]:
    return [one for case in cases() for one in case.get("exp_samples", []) if one["labels"].startswith("ALERTS")]


def test_the_runbook_has_an_entry_for_each_alert_and_for_no_other() -> None:
    part = RUNBOOK.split("\n## Alerts\n", 1)[1].split("\n## ", 1)[0]
    entries = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", part, re.MULTILINE | re.DOTALL))
    assert list(entries) == [alert["alert"] for alert in alerts()]
    for name, text in entries.items():
        for word in ("Means", "Look", "Do"):
            assert f"**{word}:**" in text, f"{name} does not say it: {word}"


def test_prometheus_looks_for_replicas_and_workers_where_compose_has_them() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name, setting in (("gateway", "ADMIN_PORT"), ("worker", "WORKER_PORT")):
        (found,) = jobs[name]["dns_sd_configs"]
        assert (found["names"], found["type"]) == ([name], "A")
        assert found["port"] == services[name]["environment"][setting]
        assert set(services[name]["networks"]) & set(services["prometheus"]["networks"])
    assert config["rule_files"] == ["alerts.yml"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]
