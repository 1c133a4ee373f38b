"""Expressions of Prometheus: which metrics they read, by which labels, and which metrics and labels there are."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import Struct
from prometheus_client import CollectorRegistry

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.worker import WorkerMetrics

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
TARGET = {"job", "instance"}
"""labels that Prometheus gives to everything it reads"""
BUILTIN = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
TOKEN = re.compile(
    r'(?P<text>"(?:\\.|[^"\\])*")|(?P<range>\[[^\]]*\])|(?P<name>[a-zA-Z_:][\w:]*)|(?P<number>[\d.]+\w*)|(?P<sign>[^\s])'
)
SETS = {"and", "or", "unless", "bool", "offset"}
LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
MINUTES = 20
"""that samples go on"""
SAMPLE_VALUES = {
    "le": ["0.1", "+Inf"],
    "hit": ["true", "false"],
    "error_type": ["", "backend_failed"],
    "status": ["ok", "backend_failed"],
}
"""what a label may be, where it matters"""
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "6h"}
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool") and "CI" not in os.environ,
    reason="there is no promtool here: apt-get install prometheus",
)


class Read(Struct, frozen=True):
    """A metric, and the labels by which an expression chooses or groups it."""

    metric: str
    labels: frozenset[str]


def promtool(*arguments: str | Path, cwd: Path = PROMETHEUS) -> str:
    """What it says, when it finds nothing wrong."""
    done = subprocess.run(["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def rules() -> list[dict[str, Any]]:
    """Those of alerts.yml, in order."""
    return [
        rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def known() -> dict[str, set[str]]:
    """The labels of every metric that Prometheus may be asked for, by name."""
    found = dict(BUILTIN)
    for registry in (Metrics().registry, WorkerMetrics().registry):
        found |= {name: labels | found.get(name, set()) for name, labels in _of(registry)}
    found |= {rule["record"]: grouped(rule["expr"]) for rule in rules() if "record" in rule}
    return {name: labels | TARGET for name, labels in found.items()}


def _of(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    for collector in list(registry._collector_to_names):
        own = vars(collector)
        labels = set(own.get("_labelnames", own.get("_labels", ())))
        for family in collector.describe():
            if family.type == "histogram":
                yield f"{family.name}_bucket", labels | {"le"}
                yield f"{family.name}_sum", labels
                yield f"{family.name}_count", labels
            else:
                yield family.name + ("_total" if family.type == "counter" else ""), labels


def samples() -> list[dict[str, str]]:
    """Series of every metric of a replica and a worker, that grow or stay, as promtool's tests take them."""
    registries = {"gateway": Metrics().registry, "worker": WorkerMetrics().registry}
    found = [{"series": f'up{{job="{job}", instance="a"}}', "values": f"1x{MINUTES}"} for job in registries]
    for job, registry in registries.items():
        for name, labels in _of(registry):
            grows = name.endswith(("_total", "_bucket", "_sum", "_count"))
            for values in product(*(SAMPLE_VALUES.get(label, ["a"]) for label in sorted(labels))):
                pairs = {"job": job, "instance": "a", **dict(zip(sorted(labels), values, strict=True))}
                said = ", ".join(f'{label}="{value}"' for label, value in pairs.items() if value)
                found.append({"series": f"{name}{{{said}}}", "values": f"0+6x{MINUTES}" if grows else f"1x{MINUTES}"})
    return found


def grouped(expression: str) -> set[str]:
    """All labels that it groups by."""
    return {label for found in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.findall(r"\w+", found)}


def expanded(expression: str) -> str:
    """With Grafana's variables replaced: times as they usually are, and all of what may be chosen."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$\w+", ".*", expression)


def reads(expression: str) -> list[Read]:
    """Every metric in it."""
    reader = _Reader([match for match in TOKEN.finditer(expanded(expression)) if match.lastgroup != "range"])
    found = list(reader.body(frozenset()))
    assert found, expression
    return [Read(one.metric, one.labels - reader.made) for one in found]


class _Reader:
    def __init__(self, tokens: Sequence[re.Match[str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self.made: set[str] = set()
        """labels that the expression itself makes"""

    def body(self, scope: frozenset[str]) -> Iterator[Read]:
        """Up to a closing parenthesis or the end. `scope`: what is grouped by around it."""
        by: frozenset[str] = frozenset()
        while self._at < len(self._tokens):
            kind, text = self._take()
            if text == ")":
                return
            if text == "(":
                yield from self.body(scope | by)
                by = frozenset()
            elif kind == "name" and text in LISTS:
                labels = frozenset(self._list())
                by = labels if text in ("by", "without") else frozenset()
            elif kind == "name" and text not in SETS and self._next() == "(":
                if text == "label_replace":
                    self._makes()
            elif kind == "name" and text not in SETS and self._next() not in LISTS:
                yield Read(text, scope | frozenset(self._matchers()))

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at += 1
        return token.lastgroup or "", token.group()

    def _next(self) -> str:
        return self._tokens[self._at].group() if self._at < len(self._tokens) else ""

    def _list(self) -> Iterator[str]:
        assert self._take()[1] == "("
        while (token := self._take())[1] != ")":
            if token[0] == "name":
                yield token[1]

    def _matchers(self) -> Iterator[str]:
        if self._next() != "{":
            return
        while (token := self._take())[1] != "}":
            if token[0] == "name":
                yield token[1]

    def _makes(self) -> None:
        """The first text in it is the label that it makes."""
        self.made.add(next(one.group().strip('"') for one in self._tokens[self._at :] if one.lastgroup == "text"))


def check_reads(expression: str, there_are: dict[str, set[str]]) -> None:
    """Every metric exists, and has every label that it is chosen or grouped by."""
    for read in reads(expression):
        assert read.metric in there_are, f"no metric {read.metric}: {expression}"
        assert read.labels <= there_are[read.metric], f"{read.metric} has no such label: {expression}"
