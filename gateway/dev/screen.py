"""The one screen that `up` shows when everything runs."""

import json
import shlex

from gateway.dev.home import ADMIN_SECRET, DEMO_KEY
from gateway.dev.probe import Node

MODELS_SHOWN_MAX = 6


def screen(
    *,
    url: str,
    admin_url: str,
    admin_secret: str,
    demo_key: str,
    nodes: list[Node],
    fake: Node | None,
    model: str,
    state: str,
    embedded: list[str],
    seconds: float,
) -> str:
    """What to know, and a line to paste."""
    rows = [
        ("URL", url),
        ("Docs", f"{url}/docs"),
        *([("Admin API", f"{admin_url}/admin")] if admin_url != url else []),
        ("Admin secret", f"{admin_secret}   (header X-Admin-Secret)"),
        ("Demo key", demo_key),
        *((("Ollama", "")[number > 0], _node(node)) for number, node in enumerate([*nodes, *([fake] if fake else [])])),
        ("State", f"{state}   ({ADMIN_SECRET}, {DEMO_KEY}, logs/{''.join(f', {name}/' for name in embedded)})"),
    ]
    lines = [f"LLM Gateway runs, after {seconds:.1f} s.", ""]
    lines += [f"  {name:<13} {text}" for name, text in rows]
    if fake:
        lines += ["", "  NO OLLAMA ANSWERS: THE BUILT-IN FAKE OLLAMA RUNS INSTEAD, AND ITS ANSWERS ARE MADE UP."]
    return "\n".join([*lines, "", "Try it:", f"  {curl(url, demo_key, model)}", "", "Ctrl-C stops everything."])


def curl(url: str, key: str, model: str) -> str:
    """A request that works when pasted into a shell."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Why is the sky blue?"}]})
    headers = (f"Authorization: Bearer {key}", "Content-Type: application/json")
    parts = ["curl", f"{url}/v1/chat/completions", *(part for header in headers for part in ("-H", header)), "-d", body]
    return shlex.join(parts)


def _node(node: Node) -> str:
    if node.problem:
        return f"{node.url}   {node.problem}"
    shown = ", ".join(node.models[:MODELS_SHOWN_MAX]) or "no models: ollama pull llama3.2"
    more = len(node.models) - MODELS_SHOWN_MAX
    return f"{node.url}   {node.version}   {shown}{f' and {more} more' if more > 0 else ''}"
