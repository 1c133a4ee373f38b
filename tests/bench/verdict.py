"""The targets of the project beside what a run has reached. Pure."""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from tests.bench.finding import Finding, found_in
from tests.bench.overload import GOODPUT, REFUSALS
from tests.bench.sample import Figures

Results = Mapping[str, Mapping[str, Figures]]
"""by scenario and contestant"""
Reached = tuple[float | None, float | None, bool]
"""a figure; the same of the best rounds alone; whether it is noisy"""
NGINX, DIRECT, OURS, PEER = "nginx native", "direct native", "gateway openai", "litellm openai"
NOTHING: Reached = (None, None, False)


class Verdict(Struct, frozen=True):
    """`reached` None: not measured in this run, or of somebody who did not do what was asked.

    `best` is of the best rounds alone, where that says something. `noisy`: others used the cores while it was measured.
    """

    name: str
    target: float
    at_least: bool
    reached: float | None
    best: float | None = None
    noisy: bool = False

    @property
    def good(self) -> bool | None:
        if self.reached is None:
            return None
        return self.reached >= self.target if self.at_least else self.reached <= self.target


def verdicts(results: Results, findings: list[Finding]) -> list[Verdict]:
    """In the order of the project's table of targets."""
    idle = found_in(findings, "idle_streams", "gateway", "KiB a stream")
    return [
        Verdict("CPU per JSON request / nginx", 5.0, False, *_cpu(results, "json_c32", OURS, NGINX)),
        Verdict("CPU per paced chunk, NDJSON -> SSE / nginx", 2.2, False, *_cpu(results, "stream_paced", OURS, NGINX)),
        Verdict("CPU per request, LiteLLM / ours", 80.0, True, *_cpu(results, "json_c32", PEER, OURS)),
        Verdict("p99 at c32 / nginx's", 6.0, False, *_ratio(results, "json_c32", OURS, NGINX, "p99_us")),
        Verdict("added p50 at c1, ms", 0.8, False, *_added_ms(results, "json_c1", "p50_us")),
        Verdict(
            "first token added, p99 of 32 paced streams, ms", 2.0, False,
            *_added_ms(results, "first_token", "first_p99_us"),
        ),
        Verdict("KiB per open stream", 24.0, False, *_worst([idle] if idle else [], max)),
        Verdict("goodput at 10x overload, % of peak", 95.0, True, *_worst(_of(findings, GOODPUT), min)),
        Verdict("refusals' p99 at 10x overload, ms", 100.0, False, *_worst(_of(findings, REFUSALS), max)),
    ]  # fmt: skip


def _of(findings: Iterable[Finding], what: str) -> list[Finding]:
    return [one for one in findings if one.what == what]


def _worst(findings: list[Finding], worst: Callable[[Iterable[float]], float]) -> Reached:
    if not findings:
        return NOTHING
    return worst(one.value for one in findings), None, any(one.noisy for one in findings)


def _cpu(results: Results, scenario: str, over: str, under: str) -> Reached:
    """Of medians, and of the least."""
    value, _, noisy = _ratio(results, scenario, over, under, "cpu_us")
    best, _, _ = _ratio(results, scenario, over, under, "cpu_us_min")
    return value, best, noisy


def _ratio(results: Results, scenario: str, over: str, under: str, what: str) -> Reached:
    first, second, noisy = _pair(results, scenario, over, under, what)
    return (first / second, None, noisy) if first is not None and second else NOTHING


def _added_ms(results: Results, scenario: str, what: str) -> Reached:
    ours, direct, noisy = _pair(results, scenario, OURS, DIRECT, what)
    return ((ours - direct) / 1000, None, noisy) if ours is not None and direct is not None else NOTHING


def _pair(results: Results, scenario: str, one: str, other: str, what: str) -> Reached:
    """A figure of both of them; None for who has none, or is not sound."""
    found = [results.get(scenario, {}).get(name) for name in (one, other)]
    first, second = (getattr(figures, what) if figures and figures.sound else None for figures in found)
    return first, second, any(figures.noisy for figures in found if figures)
