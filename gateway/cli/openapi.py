"""`llm-gateway openapi`: the document of the whole API, as replicas serve it."""

import argparse
from importlib.metadata import version

import msgspec

from gateway.settings import Settings

HELP = "print the OpenAPI document of the API"


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the document that replicas serve at /openapi.json; deploy/openapi.json is a copy of it."


def run(options: argparse.Namespace, settings: Settings) -> int:
    from gateway.web.openapi import document

    print(text(document(version("llm-gateway"))))
    return 0


def text(document: object) -> str:
    """One value a line, so that changes can be read."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()
