"""What a run has found, as text. Pure."""

from collections.abc import Sequence

from tests.bench.finding import Finding
from tests.bench.gate import Gate
from tests.bench.run import Report
from tests.bench.sample import Figures
from tests.bench.verdict import Results, Verdict

_HEAD = (
    "scenario", "target", "rounds", "/s", "CPU us (min)", "/s of a core", "Redis us", "p50 ms", "p99 ms", "+p50 ms",
    "+p99 ms", "first p50/p99 ms", "chunk p50/p99 ms", "errors",
)  # fmt: skip
LEGEND = """\
/s, CPU and Redis: of requests, or of chunks where it streams; medians of rounds, and the best one in brackets.
/s of a core: what that CPU time comes to on a core that does nothing else.
rounds: counted-dropped, as others used the cores; ~: there were too few quiet ones, so all are counted. Whatever else
has a ~ was measured while others used the cores.
+: more than direct. first, chunk: added on the way from client to node and back, and from node to client."""


def text(report: Report) -> str:
    """All of it."""
    parts = [
        "\n".join(f"{name}: {value}" for name, value in report.versions.items()),
        figures_table(report.results) + "\n" + LEGEND if report.results else "",
        findings_table(report.findings) if report.findings else "",
        verdicts_table(report.verdicts),
        "\n".join(gate_line(gate) for gate in report.gates),
        f"{report.seconds:.0f} s, SEED={report.seed}",
    ]
    return "\n\n".join(part for part in parts if part)


def history_line(report: Report) -> str:
    """A row for tests/bench/results.md; what has changed is for whoever adds it."""
    reached = [_marked(one.reached, one.noisy) for one in report.verdicts]
    return "| " + " | ".join((report.at.split()[0], report.versions.get("commit", ""), "", *reached)) + " |"


def table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Columns as wide as they need, the first `left` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        sized = zip(row, widths, strict=True)
        cells = [cell.ljust(width) if at < left else cell.rjust(width) for at, (cell, width) in enumerate(sized)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def figures_table(results: Results) -> str:
    rows: list[Sequence[str]] = [_HEAD]
    for scenario, by_name in results.items():
        direct = next((found for name, found in by_name.items() if name.startswith("direct")), None)
        rows += [_row(scenario, name, found, direct) for name, found in by_name.items()]
    return table(rows, left=2)


def findings_table(findings: Sequence[Finding]) -> str:
    return table([(one.trial, one.target, _marked(one.value, one.noisy), one.what) for one in findings], left=2)


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    rows = [("target", "", "reached", "best rounds", "")]
    words = {True: "yes", False: "NO", None: "not measured"}
    for one in verdicts:
        sign = ">=" if one.at_least else "<="
        reached = _marked(one.reached, one.noisy)
        rows.append((one.name, f"{sign} {one.target:g}", reached, _number(one.best), words[one.good]))
    return table(rows, left=1)


def gate_line(gate: Gate) -> str:
    return f"{'ok    ' if gate.good else 'FAILED'}  {gate.name}: {gate.found}"


def _row(scenario: str, name: str, found: Figures, direct: Figures | None) -> Sequence[str]:
    measured = not name.startswith("direct")
    return (
        scenario,
        name,
        f"{found.rounds}-{found.dropped}{'~' if found.noisy else ''}",
        f"{found.per_s:,.0f}",
        f"{found.cpu_us:.1f} ({found.cpu_us_min:.1f})" if measured else "",
        f"{1e6 / found.cpu_us:,.0f}" if measured and found.cpu_us else "",
        f"{found.redis_us:.1f}" if name.startswith("gateway") else "",
        _ms(found.p50_us),
        _ms(found.p99_us),
        _ms(_more(found.p50_us, direct.p50_us)) if measured and direct else "",
        _ms(_more(found.p99_us, direct.p99_us)) if measured and direct else "",
        _pair(found.first_p50_us, found.first_p99_us),
        _pair(found.chunk_p50_us, found.chunk_p99_us),
        " ".join(f"{count} {what}" for what, count in found.errors.items()) or "0",
    )


def _marked(value: float | None, noisy: bool) -> str:
    return _number(value) + "~" * noisy


def _number(value: float | None) -> str:
    """With three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _more(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _ms(value_us: float | None) -> str:
    return "" if value_us is None else f"{value_us / 1000:.2f}"


def _pair(first_us: float | None, second_us: float | None) -> str:
    return "" if first_us is None else f"{_ms(first_us)}/{_ms(second_us)}"
