"""Secrets out of an example stop the start; those that somebody made do not."""

import re
import secrets
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import dotenv
from gateway.core.samples import is_sample
from gateway.dotenv import OF_COMPOSE
from gateway.settings import FROM_FILES, WRITTEN_NAMES, SettingsError, load
from tests.world import ADMIN_SECRET

ROOT = Path(__file__).parents[2]
SAMPLES = [
    "change-me-change-me", "changemechangemechangeme", "CHANGE_ME_TO_SOMETHING_LONG", "secretsecretsecretsecret",
    "your-admin-secret-here", "your-32-character-pepper-here", "passwordpassword123",
    "<your admin secret here>", "example-secret-example", "admin-admin-admin-admin", "xxxxxxxxxxxxxxxxxxxxxxxx",
    "0123456789abcdef0123456789abcdef", "1234567890" * 4, "123456789123456789", "abcdefghijklmnopqrstuvwxyz",
    "please-change-this-to-some-random-string", "test-admin-secret", "replace-with-your-own-secret-key",
]  # fmt: skip
GOOD = [
    ADMIN_SECRET,
    "correct horse battery staple",
    "4f8a1c9be07d3265a0b1c2d3e4f50617",
    "secret-83920174659201837465920",
    "92740185637401928563740192856374",
]


def problems(**env: str) -> list[str]:
    try:
        load(env)
    except SettingsError as error:
        return error.problems
    return []


@pytest.mark.parametrize("name", ["ADMIN_SECRET", "KEY_PEPPER", "KEY_PEPPER_PREVIOUS"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_is_refused_and_not_repeated(name: str, sample: str) -> None:
    (line,) = problems(**{name: sample * 2 if "PEPPER" in name else sample})
    assert line.startswith(f"{name} is a sample")
    assert "make secrets" in line
    assert sample not in line


@pytest.mark.parametrize("name", ["ADMIN_SECRET", "KEY_PEPPER"])
def test_few_different_characters_are_refused(name: str) -> None:
    (line,) = problems(**{name: "q7Z" * 20})
    assert line.startswith(f"{name} has fewer than 8 different characters")


@pytest.mark.parametrize("secret", GOOD)
def test_other_secrets_are_taken(secret: str) -> None:
    assert problems(ADMIN_SECRET=secret, KEY_PEPPER=secret.ljust(32, "~")) == []


@given(st.binary(min_size=16, max_size=32))
def test_what_chance_makes_is_no_sample(value: bytes) -> None:
    if len(set(value)) > 8:
        assert not is_sample(value.hex())


def test_what_our_own_tools_make_is_taken() -> None:
    for _ in range(1_000):
        assert not is_sample(secrets.token_urlsafe(32))
        assert not is_sample("".join(secrets.choice(string.ascii_lowercase) for _ in range(20)))


PLACES = [("REDIS_URL", "redis://{}@redis:6379/0"), ("DATABASE_URL", "postgresql://{}@db/gateway")]


@pytest.mark.parametrize(("name", "url"), PLACES)
@pytest.mark.parametrize(
    "user",
    ["u:password", "u:change-me", "u:changeme123", "gateway:gateway", "somebody:somebody", "u:s%65cret", ":redis"],
)
def test_a_sample_password_is_refused_where_others_reach_the_server(name: str, url: str, user: str) -> None:
    (line,) = problems(**{name: url.format(user)})
    assert line.startswith(f"{name} has a password that everybody tries first")
    assert user.partition(":")[2] not in line.replace("make secrets", "").replace("password that", "")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "redis://redis:6379"),
        ("REDIS_URL", "redis://:tr0ub4dor-and-3@redis:6379"),
        ("REDIS_URL", "redis://u:password@localhost:6379"),
        ("REDIS_URL", "redis://u:password@127.0.0.1:6379"),
        ("REDIS_URL", "redis://u:password@[::1]:6379"),
        ("REDIS_URL", "unix://u:password@/run/redis.sock"),
        ("DATABASE_URL", "postgresql://postgres:postgres@localhost/gateway"),
        ("DATABASE_URL", "postgresql://postgres:postgres@/gateway?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql://gateway@db/gateway"),
        ("DATABASE_URL", "postgresql://gateway:4f8a1c9be07d@h1:5432,h2:5432/gateway"),
    ],
)
def test_no_password_a_good_one_or_this_machine_is_fine(name: str, url: str) -> None:
    assert problems(**{name: url}) == []


def test_one_place_that_others_reach_is_enough() -> None:
    assert problems(DATABASE_URL="postgresql://u:password@localhost,db/gateway")
    assert problems(DATABASE_URL="postgresql://u@db/gateway?password=password")


EXAMPLE = ROOT / "deploy" / "env.example"


def test_what_our_own_example_shows_is_refused() -> None:
    """Also what stands in comments, to be taken in."""
    for name, value in re.findall(rf"^#? ?({'|'.join(FROM_FILES)})=(\S+)", EXAMPLE.read_text("utf-8"), re.MULTILINE):
        assert problems(ADMIN_SECRET=ADMIN_SECRET) == []
        assert problems(**{"ADMIN_SECRET": ADMIN_SECRET, name: value}), name


def test_what_compose_reads_of_the_same_file_is_no_mistake() -> None:
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE))
    assert named - set(WRITTEN_NAMES) == OF_COMPOSE
    read: list[str] = []
    assert dotenv.read(EXAMPLE, WRITTEN_NAMES, read) == {}
    assert read == []


def test_dotenv_may_be_that_of_compose(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SITE_ADDRESS=gateway.example.org\nDRAIN_SECONDS=7\n")
    assert load({}, tmp_path / ".env").drain_seconds == 7
