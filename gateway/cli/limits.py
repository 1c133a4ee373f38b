"""Limits as flags: the same names as in JSON, with `unlimited` for null and `inherit` for nothing said."""

import argparse
from argparse import ArgumentTypeError
from typing import Any

UNLIMITED, INHERIT, NO_LIMITS = "unlimited", "inherit", "none"
NUMBERS = {
    "rate_limit_per_min": "requests a minute",
    "burst": "requests at once (default: a minute's worth)",
    "tokens_per_min": "tokens a minute",
    "concurrency": "calls at once",
    "monthly_token_limit": "tokens a calendar month (UTC)",
}
OF_MODELS = ("rate_limit_per_min", "tokens_per_min")
OF_MODEL_EXAMPLE = "write it as GLOB:rate_limit_per_min=N,tokens_per_min=N"


def add_limits(parser: argparse.ArgumentParser, inherited_from: str) -> None:
    """The flags; `inherited_from` is what decides where nothing is said."""
    group = parser.add_argument_group("limits", f"N, `{UNLIMITED}`, or `{INHERIT}`: {inherited_from} decides")
    for name, about in NUMBERS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=limit, metavar="N", help=about)
    group.add_argument(
        "--model-limit",
        type=model_limit,
        action="append",
        metavar="GLOB:NAME=N,…",
        help="limits of some models alone, such as 'llama3*:rate_limit_per_min=5,tokens_per_min=1000'; may be "
        f"repeated; `{NO_LIMITS}` removes those there are, `{INHERIT}` leaves them to {inherited_from}",
    )


def limits_of(options: argparse.Namespace, *, anew: bool = False) -> dict[str, Any]:
    """What the flags say, as JSON has it. `anew`: of something new, where to inherit is to say nothing."""
    body = {name: value for name in NUMBERS if (value := getattr(options, name)) is not None}
    if options.model_limit:
        body["model_limits"] = _model_limits(options.model_limit)
    said = {name: None if value == UNLIMITED else value for name, value in body.items()}
    return {name: value for name, value in said.items() if not (anew and value == INHERIT)}


def limit(text: str) -> int | str:
    """A limit's flag."""
    if text in (UNLIMITED, INHERIT):
        return text
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is neither a number nor `{UNLIMITED}` nor `{INHERIT}`")
    return int(text)


def model_limit(text: str) -> tuple[str, dict[str, int | None]]:
    """Glob and limits of --model-limit. The glob may hold colons itself, so the last one counts."""
    if text in (NO_LIMITS, INHERIT):
        return text, {}
    glob, _, said = text.rpartition(":")
    if "=" not in said:
        raise ArgumentTypeError(
            f"{text!r} says no limit: {OF_MODEL_EXAMPLE.replace('GLOB', text.rstrip(':') or 'GLOB')}"
        )
    if not glob:
        raise ArgumentTypeError(f"{text!r} does not say of which models: {OF_MODEL_EXAMPLE}")
    return glob, dict(_of_model(part) for part in said.split(","))


def _of_model(text: str) -> tuple[str, int | None]:
    """One NAME=N of --model-limit."""
    name, _, value = text.strip().partition("=")
    name = name.replace("-", "_")
    if name not in OF_MODELS:
        raise ArgumentTypeError(f"{name!r} is no limit of a model: those are {' and '.join(OF_MODELS)}")
    number = limit(value)
    if number == INHERIT:
        raise ArgumentTypeError(f"a limit of a model cannot be `{INHERIT}`: leave it out")
    return name, None if number == UNLIMITED else int(number)


def _model_limits(flags: list[tuple[str, dict[str, int | None]]]) -> dict[str, Any] | str:
    words = {glob for glob, limits in flags if not limits}
    if words:
        return INHERIT if INHERIT in words else {}
    return dict(flags)


def lines_of(limits: dict[str, Any]) -> list[str]:
    """Limits as lines for people; those that say nothing are left out."""
    lines = [f"{name} {short(limits[name])}" for name in NUMBERS if limits[name] != INHERIT]
    of_models = limits["model_limits"]
    for glob, of_model in of_models.items() if isinstance(of_models, dict) else ():
        parts = [f"{name} {of_model[name]:,}" for name in OF_MODELS if of_model.get(name) is not None]
        lines.append(f"of {glob}: {', '.join(parts) or UNLIMITED}")
    return lines


def short(limit: int | None) -> str:
    """A limit in a table."""
    return UNLIMITED if limit is None else f"{limit:,}"
