"""`llm-gateway check`: which model servers answer, and what they have."""

import argparse
import asyncio

from gateway.cli.table import table
from gateway.dev.probe import Node, ask_all
from gateway.settings import Settings

HELP = "show which Ollama nodes answer and which models they have (needs OLLAMA_BASE_URL)"
WAIT_S = 5.0
CELL_CHARS_MAX = 2_000  # a node may have many models


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Ask every node in OLLAMA_BASE_URL for its version, its models and those in memory (marked *). "
        "The exit code is 1 when none of them answers."
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    nodes = asyncio.run(ask_all(settings.ollama_base_url, WAIT_S))
    print(table(("NODE", "VERSION", "MODELS"), [_row(node) for node in nodes], chars_max=CELL_CHARS_MAX))
    return 0 if any(not node.problem for node in nodes) else 1


def _row(node: Node) -> tuple[str, str, str]:
    if node.problem:
        return node.url, "-", node.problem
    models = (f"{name}*" if name in node.loaded else name for name in node.models)
    return node.url, node.version, ", ".join(models) or "none"
