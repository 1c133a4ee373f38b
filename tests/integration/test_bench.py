"""The benchmark still runs, with nothing but what the lock files name: it finds figures, and all calls are rows."""

import os

import pytest

from tests.bench import nginx, wrk
from tests.bench.run import Plan, Report, run
from tests.bench.scenario import SCENARIOS

SECONDS = 0.3


@pytest.fixture
async def report(monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(nginx, "PROGRAM", None)
    monkeypatch.setattr(wrk, "PROGRAM", None)
    scenarios = [one for one in SCENARIOS if one.name in ("json_c1", "stream_burst")]
    cores = os.sched_getaffinity(0)
    found = await run(Plan(scenarios=scenarios, seed=1, rounds=2, seconds=SECONDS, gates=False), print)
    assert os.sched_getaffinity(0) == cores
    return found


async def test_a_short_run_has_figures_of_the_gateway_and_loses_no_call(report: Report) -> None:
    assert [gate.name for gate in report.gates if not gate.good] == []
    for scenario, names in (("json_c1", ["gateway openai"]), ("stream_burst", ["gateway native", "gateway openai"])):
        found = report.results[scenario]
        assert list(found) == ["direct native", *names]
        assert all(one.requests > 0 and not one.errors for one in found.values())
        assert all(found[name].cpu_us > 0 and found[name].redis_us > 0 for name in names)
    assert report.results["stream_burst"]["gateway openai"].cpu_us < report.results["json_c1"]["gateway openai"].cpu_us
