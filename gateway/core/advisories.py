"""Holes of Ollama that whoever can reach a node can use, by the version that closed them.

Calls through the gateway do not get at any of them, for it keeps the routes they need to itself. But a node is often
reached by others too. Holes that no version has closed, and those without a stated one, are not here: no version is
any better. Sources: reference ollama-http section 6, reliability 3.11.
"""

from msgspec import Struct

from gateway.core.versions import older

ADVISED = "0.34.2"
"""the first version without any of these"""


class Advisory(Struct, frozen=True):
    """`fixed_in` is the first version without the hole."""

    id: str
    fixed_in: str
    what: str


ADVISORIES = (
    Advisory("CVE-2024-28224", "0.1.29", "a web page can use the whole API through DNS rebinding"),
    Advisory("CVE-2024-37032", "0.1.34", "pulling a model can write any file and run code"),
    Advisory("CVE-2024-39721", "0.1.34", "creating models can keep the server busy for ever"),
    Advisory("CVE-2025-44779", "0.1.34", "pulling a model can delete files"),
    Advisory("CVE-2024-39720", "0.1.46", "a crafted model file crashes the server"),
    Advisory("CVE-2024-39722", "0.1.46", "pushing tells which files are there"),
    Advisory("CVE-2024-45436", "0.1.47", "a crafted archive writes files outside its folder"),
    Advisory("CVE-2024-12886", "0.4.0", "a registry's answer can use up all memory"),
    Advisory("CVE-2026-7482", "0.17.1", "creating and pushing a model reads memory with prompts and secrets"),
    Advisory("CVE-2026-108836", "0.34.2", "a model's name makes the server send requests to any host"),
)


def warnings(version: str) -> tuple[str, ...]:
    """What an operator should know of a node with that version, one line each, and what to do; none for ""."""
    found = [one for one in ADVISORIES if older(version, one.fixed_in)]
    if not found:
        return ()
    lines = (f"{one.id}: {one.what}; fixed in {one.fixed_in}" for one in found)
    return (*lines, f"update this node's Ollama {version} to {ADVISED} or newer")
