"""`llm-gateway worker`: one worker, until SIGTERM."""

import argparse

from gateway.settings import Settings

HELP = "run one worker (needs REDIS_URL and DATABASE_URL)"


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run one worker: it stores usage in Postgres, settles calls of dead replicas and keeps Redis' keys up to date. "
        "Any number may share one Redis and one Postgres; a gateway without any goes on, and its usage waits."
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    """The only commands that know the workers are this one, `migrate` and `up`; so the import is here."""
    from workers.lifecycle import run as work

    return work(settings)
