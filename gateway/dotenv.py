"""A `.env` file: NAME=value lines; `#` comments, `export ` and a pair of quotes are allowed."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

OF_COMPOSE = frozenset(
    (
        "ADMIN_FROM", "COMPOSE_PROFILES", "GATEWAY_IMAGE", "GATEWAY_MEMORY", "GATEWAY_REPLICAS", "GATEWAY_STOP_GRACE",
        "GRAFANA_PORT", "GRAFANA_POSTGRES_ADDRESS", "GRAFANA_POSTGRES_DATABASE", "GRAFANA_POSTGRES_SSLMODE",
        "GRAFANA_POSTGRES_USER", "HTTPS_PORT", "HTTP_PORT", "OLLAMA_MEMORY", "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME", "OTEL_TRACES_EXPORTER",
        "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "POSTGRES_BUFFERS", "POSTGRES_CONNECTIONS", "POSTGRES_MEMORY",
        "PROMETHEUS_RETENTION", "REDIS_MEMORY", "SECRETS_DIR", "SITE_ADDRESS",
    )
)  # fmt: skip
"""what compose.yaml reads of the same file (deploy/env.example): nothing to us, and no mistake"""


def read(path: Path, names: Sequence[str], problems: list[str]) -> dict[str, str]:
    """Its values by name. Adds a problem for each line that is none, and each name that is not among `names`."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError):
        problems.append(f"{path.name} cannot be read as UTF-8 text")
        return {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not equals:
            problems.append(f"{path.name} line {number}: expected NAME=value")
        elif name in OF_COMPOSE:
            continue
        elif name not in names:
            problems.append(f"{path.name} line {number}: no setting is called {name}{_nearest(name, names)}")
        else:
            found[name] = _unquoted(value)
    return found


def _unquoted(value: str) -> str:
    """What stands between a pair of quotes, else all up to a comment."""
    quote = value[:1]
    if quote and quote in "\"'":
        inner, closing, rest = value[1:].partition(quote)
        if closing and (not rest.strip() or rest.lstrip().startswith("#")):
            return inner
    return value.split(" #", 1)[0].strip()


def _nearest(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name.upper(), names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
