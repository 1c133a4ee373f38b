"""`python -m tests.bench`: the benchmark of the whole gateway. `make bench` and `make bench-full` run it."""

import argparse
import os
import random
import sys
from pathlib import Path

import msgspec
import uvloop

from gateway.dev.places import CannotStart
from tests.bench import report, scenario
from tests.bench.run import TRIALS, Plan, run

ROOT = Path(__file__).parents[2]
ROUNDS = 5
"""of which the first warms up"""
PEERS = (scenario.LITELLM,)


def main() -> int:
    """0; 1 when a gate fails: how fast it is fails nothing."""
    options = _parser().parse_args()
    out, plan = options.json and options.json.absolute(), _plan(options)
    os.chdir(ROOT)  # processes of ours are modules of tests
    print(f"SEED={plan.seed}")
    try:
        found = uvloop.run(run(plan, lambda line: print(line, flush=True)))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{report.text(found)}")
    if options.full and not options.only:
        print(f"\nfor tests/bench/results.md:\n{report.history_line(found)}")
    if out:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return 0 if found.good else 1


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        scenarios=scenario.chosen(options.only, full=options.full, peers=options.peers),
        seed=options.seed,
        rounds=options.rounds,
        trials=tuple(name for name in TRIALS if name in options.only or (options.full and not options.only)),
        peers=tuple(options.peers),
        profile=options.profile.absolute() if options.profile else None,
        gates=not options.only,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [*(one.name for one in scenario.SCENARIOS), *TRIALS]
    parser.add_argument("--full", action="store_true", help="all scenarios, trials and dialects: many minutes")
    parser.add_argument("--only", nargs="+", default=[], choices=names, help="these scenarios, and no gates")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each target; the first is not counted")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.randrange(10**9)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="have py-spy watch the gateway: .svg, .txt or .json"
    )
    asked = [name for name in os.environ.get("BENCH_PEERS", "").split(",") if name]
    parser.add_argument("--peers", nargs="+", default=asked, choices=PEERS, help="who else takes part; or BENCH_PEERS")
    return parser


if __name__ == "__main__":
    sys.exit(main())
