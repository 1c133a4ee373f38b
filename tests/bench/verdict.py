"""The targets of the project beside what a run has reached. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from tests.bench.finding import Finding, value_of
from tests.bench.overload import GOODPUT, REFUSALS
from tests.bench.sample import Figures

Results = Mapping[str, Mapping[str, Figures]]
"""by scenario and contestant"""
NGINX, DIRECT, OURS, PEER = "nginx native", "direct native", "gateway openai", "litellm openai"


class Verdict(Struct, frozen=True):
    """`reached` None: not measured in this run. `best` is of the best rounds alone, where that says something."""

    name: str
    target: float
    at_least: bool
    reached: float | None
    best: float | None = None

    @property
    def good(self) -> bool | None:
        if self.reached is None:
            return None
        return self.reached >= self.target if self.at_least else self.reached <= self.target


def verdicts(results: Results, findings: list[Finding]) -> list[Verdict]:
    """In the order of the project's table of targets."""
    goodputs = [one.value for one in findings if one.what == GOODPUT]
    refusals = [one.value for one in findings if one.what == REFUSALS]
    return [
        Verdict("CPU per JSON request / nginx", 5.0, False, *_cpu(results, "json_c32", OURS, NGINX)),
        Verdict("CPU per paced chunk, NDJSON -> SSE / nginx", 2.2, False, *_cpu(results, "stream_paced", OURS, NGINX)),
        Verdict("CPU per request, LiteLLM / ours", 80.0, True, *_cpu(results, "json_c32", PEER, OURS)),
        Verdict("p99 at c32 / nginx's", 6.0, False, _ratio(results, "json_c32", OURS, NGINX, "p99_us")),
        Verdict("added p50 at c1, ms", 0.8, False, _added_ms(results, "json_c1", "p50_us")),
        Verdict(
            "first token added, p99 of 32 paced streams, ms", 2.0, False,
            _added_ms(results, "first_token", "first_p99_us"),
        ),
        Verdict("KiB per open stream", 24.0, False, value_of(findings, "idle_streams", "gateway", "KiB a stream")),
        Verdict("goodput at 10x overload, % of peak", 95.0, True, min(goodputs, default=None)),
        Verdict("refusals' p99 at 10x overload, ms", 100.0, False, max(refusals, default=None)),
    ]  # fmt: skip


def _cpu(results: Results, scenario: str, over: str, under: str) -> tuple[float | None, float | None]:
    """Of medians, and of the least."""
    first, second = (_ratio(results, scenario, over, under, what) for what in ("cpu_us", "cpu_us_min"))
    return first, second


def _ratio(results: Results, scenario: str, over: str, under: str, what: str) -> float | None:
    first, second = _figure(results, scenario, over, what), _figure(results, scenario, under, what)
    return first / second if first is not None and second else None


def _added_ms(results: Results, scenario: str, what: str) -> float | None:
    ours, direct = _figure(results, scenario, OURS, what), _figure(results, scenario, DIRECT, what)
    return (ours - direct) / 1000 if ours is not None and direct is not None else None


def _figure(results: Results, scenario: str, name: str, what: str) -> float | None:
    found = results.get(scenario, {}).get(name)
    value: float | None = getattr(found, what) if found else None
    return value
