"""What flags may say, and how figures, times and odd texts are printed."""

import argparse
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import amounts, moments
from gateway.cli.audit import changes
from gateway.cli.key_fields import add_fields, body_of
from gateway.cli.key_views import secret_lines, state
from gateway.cli.limits import add_limits, limits_of, lines_of
from gateway.cli.main import main
from gateway.cli.table import CELL_CHARS_MAX, record, table


def parse(add: Callable[[argparse.ArgumentParser], None], *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add(parser)
    return parser.parse_args(argv)


def limits(*argv: str, anew: bool = False) -> dict[str, Any]:
    return limits_of(parse(lambda parser: add_limits(parser, "its tier"), *argv), anew=anew)


def test_limits_are_numbers_unlimited_or_inherited() -> None:
    assert limits() == {}
    flags = ("--rate-limit-per-min", "60", "--tokens-per-min", "unlimited", "--burst", "inherit")
    assert limits(*flags) == {"rate_limit_per_min": 60, "tokens_per_min": None, "burst": "inherit"}
    assert limits(*flags, anew=True) == {"rate_limit_per_min": 60, "tokens_per_min": None}


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", "many", "١"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentError):
        limits("--rate-limit-per-min", text)


def test_limits_of_models_are_split_at_the_last_colon() -> None:
    flags = (
        "--model-limit",
        "llama3.2:3b:rate_limit_per_min=5,tokens-per-min=1000",
        "--model-limit",
        "*:tokens_per_min=unlimited",
    )
    assert limits(*flags) == {
        "model_limits": {
            "llama3.2:3b": {"rate_limit_per_min": 5, "tokens_per_min": 1000},
            "*": {"tokens_per_min": None},
        }
    }
    assert limits("--model-limit", "none") == {"model_limits": {}}
    assert limits("--model-limit", "inherit") == {"model_limits": "inherit"}


@pytest.mark.parametrize(
    "text",
    ["llama3", "rate_limit_per_min=5", ":rate_limit_per_min=5", "a:burst=5", "a:rate_limit_per_min=inherit", "a:"],
)
def test_what_is_no_limit_of_models_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentError):
        limits("--model-limit", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("llama3:8b", "says no limit: write it as llama3:8b:rate_limit_per_min=N"),
        (":tokens_per_min=5", "does not say of which models"),
        ("a:burst=5", "'burst' is no limit of a model"),
        ("a:tokens_per_min=", "'' is neither a number"),
    ],
)
def test_what_a_limit_of_models_lacks_is_said(text: str, words: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=words):
        limits("--model-limit", text)


def test_limits_are_printed_as_they_are_named() -> None:
    shown = lines_of(
        {
            "rate_limit_per_min": 6000,
            "burst": "inherit",
            "tokens_per_min": None,
            "concurrency": "inherit",
            "monthly_token_limit": "inherit",
            "model_limits": {"llama3*": {"rate_limit_per_min": 5}, "*": {}},
        }
    )
    assert shown == [
        "rate_limit_per_min 6,000",
        "tokens_per_min unlimited",
        "of llama3*: rate_limit_per_min 5",
        "of *: unlimited",
    ]


def key(*argv: str, anew: bool = False) -> dict[str, Any]:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--label")
        add_fields(parser)

    return body_of(parse(add, *argv), anew=anew)


def test_fields_of_a_key() -> None:
    flags = (
        "--tier",
        "basic",
        "--team",
        "none",
        "--expires",
        "never",
        "--models",
        "a*",
        "--models",
        "b",
        "--no-shadow",
    )
    assert key(*flags) == {
        "tier": "basic",
        "team_id": None,
        "expires_at": None,
        "models": ["a*", "b"],
        "shadow": False,
    }
    assert key(*flags, anew=True) == {"tier": "basic", "models": ["a*", "b"], "shadow": False}
    assert key("--models", "any", "--network", "any", "--scope", "pull") == {
        "models": [],
        "networks": [],
        "scopes": ["pull"],
    }


@pytest.mark.parametrize("flag", ["--models", "--network"])
def test_a_key_that_may_use_none_is_not_what_an_empty_list_means(flag: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="`any` lifts the restriction"):
        key(flag, "a*", flag, "none")


@pytest.mark.parametrize(
    ("url", "words"),
    [("127.0.0.1:8000", "needs http://"), ("gateway.example", "needs http://"), ("", "needs"), ("http://", "no host")],
)
def test_a_url_says_its_scheme_and_host(url: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["keys", "list", "--url", url])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


KEY = {"enabled": True, "expired": False, "revoked_at": None, "shadow": False, "metered": True}
PAST = "2020-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({}, "works"),
        ({"shadow": True}, "in shadow"),
        ({"enabled": False}, "off"),
        ({"enabled": False, "shadow": True}, "off"),
        ({"enabled": False, "expired": True}, "expired"),
        ({"enabled": False, "expired": True, "revoked_at": PAST}, "revoked"),
    ],
)
def test_the_state_of_a_key_is_one_word(more: dict[str, Any], word: str) -> None:
    assert state(KEY | more) == word


@pytest.mark.parametrize(
    ("metered", "credits", "words"),
    [
        (True, None, "last use not known"),
        (True, {"balance": 1}, "no use known"),
        (False, None, "no use known"),
    ],
)
def test_a_secret_nobody_was_seen_with_may_be_in_use(metered: bool, credits: Any, words: str) -> None:
    secrets = [{"last_four": "aaaa", "created_at": PAST, "expires_at": None, "last_used_at": None}]
    (line,) = secret_lines(KEY | {"metered": metered, "credits": credits, "secrets": secrets})
    assert line == f"…aaaa of 2020-01-01 00:00 UTC, {words}"
    (line,) = secret_lines(KEY | {"credits": credits, "secrets": [secrets[0] | {"last_used_at": PAST}]})
    assert re.search(r", used \d+ y ago$", line)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("24h", 86_400), ("90d", 7_776_000), ("4w", 2_419_200), ("1d12h", 129_600)],
)
def test_durations(text: str, seconds: int) -> None:
    assert moments.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "1y", "-1d", "1.5h", "h", "1h ", "9999999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        moments.duration(text)


def test_moments() -> None:
    assert moments.moment("2027-01-01T01:00:00+01:00") == "2027-01-01T00:00:00Z"
    assert moments.moment("2027-01-01") == moments.moment("2027-01-01T00:00:00Z") == "2027-01-01T00:00:00Z"
    in_90_days = datetime.fromisoformat(moments.moment("90d"))
    assert abs(in_90_days - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
    for text in ("tomorrow", "2027-13-01", "999999999w", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            moments.moment(text)


def test_times_are_printed_for_people() -> None:
    assert moments.minute("2027-01-01T01:02:03.456Z") == "2027-01-01 01:02"
    soon = datetime.now(UTC) + timedelta(days=89, hours=1)
    assert moments.since(soon.isoformat()) == "in 89 d"
    assert moments.since((datetime.now(UTC) - timedelta(minutes=3, seconds=20)).isoformat()) == "3 min ago"
    assert (moments.minute(None), moments.since(None), moments.full(None)) == ("", "", "")
    assert [moments.span(seconds) for seconds in (0.25, 1, 61, 7200, 400 * 86_400)] == [
        "0.25 s",
        "1 s",
        "1 min",
        "2 h",
        "1 y",
    ]


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("2.5", 2.5), ("-0.000001", -0.000001), ("1e3", 1000)])
def test_amounts(text: str, number: float) -> None:
    assert amounts.amount(text) == number
    assert isinstance(amounts.amount("10"), int)


@pytest.mark.parametrize("text", ["", "ten", "nan", "inf", "0.0000001", "1,5", "1e30", "1e999999999", "9" * 5000])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        amounts.amount(text)


def test_amounts_are_printed_without_noise() -> None:
    shown = [amounts.plain(number) for number in (1234567.5, 2.0, 3, 0, -0.000001, None)]
    assert shown == ["1,234,567.5", "2", "3", "0", "-0.000001", ""]


@given(st.lists(st.tuples(st.text(), st.text(max_size=100)), max_size=8))
def test_no_text_breaks_a_table(rows: list[tuple[str, str]]) -> None:
    lines = table(("ONE", "TWO"), rows).split("\n")
    assert len(lines) == len(rows) + 1
    for line in lines:
        assert len(line) <= 2 * CELL_CHARS_MAX + 2
        assert line.isprintable()


def test_columns_stand_below_each_other_whatever_the_script() -> None:
    lines = table(("NAME", "N"), [("日本語", 1), ("e\N{COMBINING ACUTE ACCENT}t", 2), ("x" * 100, 3)]).split("\n")

    def width(text: str) -> int:
        return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

    assert {width(line[: line.rindex(" ") + 1]) for line in lines} == {CELL_CHARS_MAX + 2}
    assert lines[-1].startswith("x" * (CELL_CHARS_MAX - 1) + "…")


def test_a_record_has_a_line_for_each_of_several() -> None:
    text = record([("id", "a"), ("limits", ["one", "two"]), ("none", []), ("shadow", True)])
    assert re.split(r"\n", text) == ["id      a", "limits  one", "        two", "none    -", "shadow  yes"]


def test_what_changed_is_told_by_name() -> None:
    before = {"label": "a", "version": 1, "limits": {"burst": 1, "concurrency": 2}, "revoked_at": None}
    after = {"label": "b", "version": 2, "limits": {"burst": 1}, "revoked_at": "1970-01-01T00:00:00Z"}
    said = "label a → b, limits.concurrency 2 → -, revoked_at - → 1970-01-01 00:00"
    assert changes(before, after) == said
    rotated = {"secrets": [{"last_four": "bbbb"}, {"last_four": "aaaa"}]}
    assert changes({"secrets": [{"last_four": "aaaa"}]}, rotated) == "secrets …aaaa → …bbbb, …aaaa"
    assert changes(None, before) == changes(before, None) == ""
