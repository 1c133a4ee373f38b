"""Settings are read strictly: what cannot be used is named, one line each, and no secret is repeated."""

from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest
from msgspec import Meta

from gateway.settings import NAMES, Settings, SettingsError, load

SECRET = "hunter2hunter2"
PEPPER = "4f8a1c9be07d3265"[::-1] * 2


def problems(env: dict[str, str], dotenv: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(env, dotenv)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_defaults_are_usable_and_those_that_users_know() -> None:
    settings = load({})
    assert settings == Settings()
    assert (settings.port, settings.default_rate_limit_per_min, settings.default_monthly_token_limit) == (
        8000,
        20,
        10**6,
    )
    assert (settings.api_key_prefix, settings.ollama_base_url) == ("llm", ("http://localhost:11434",))


def test_every_setting_says_what_it_is() -> None:
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        assert any(isinstance(one, Meta) and one.description for one in get_args(hint)), name


def test_settings_are_frozen_and_hide_their_values() -> None:
    settings = load({"ADMIN_SECRET": f"{SECRET} of mine", "REDIS_URL": f"redis://:{SECRET}@h"})
    assert SECRET not in repr(settings)
    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]


GOOD = [
    ("HOST", "0.0.0.0", "0.0.0.0"),
    ("PORT", " 9000 ", 9000),
    ("PORT", "0", 0),
    ("DEBUG", "true", True),
    ("DEBUG", "Yes", True),
    ("DEBUG", "on", True),
    ("DEBUG", "1", True),
    ("DEBUG", "off", False),
    ("OLLAMA_BASE_URL", "http://a:1/, https://b/x ,", ("http://a:1", "https://b/x")),
    ("OLLAMA_TIMEOUT", "1.5", 1.5),
    ("REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("REDIS_URL", "rediss://:p@h:6380/1", "rediss://:p@h:6380/1"),
    ("DATABASE_URL", "postgresql://u:p@/db?host=/run/pg", "postgresql://u:p@/db?host=/run/pg"),
    ("DATABASE_URL", "postgresql://h1:5432,h2:5432/db", "postgresql://h1:5432,h2:5432/db"),
    ("REDIS_URL", "", ""),
    ("PORT", "", 8000),
    ("CORS_ORIGINS", "https://a,https://b", ("https://a", "https://b")),
    ("CORS_ORIGINS", "*", ("*",)),
    ("SHARDS", "16", 16),
    ("USAGE_STREAM_BYTES_MAX", "1048576", 2**20),
    ("ADMIN_SECRET", "0a1b2c3d4e5f6a7b", "0a1b2c3d4e5f6a7b"),
    ("API_KEY_PREFIX", "My-Org", "My-Org"),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_values_are_read_as_people_write_them(name: str, text: str, value: object) -> None:
    settings = load({name: text})
    assert msgspec.structs.asdict(settings)[name.lower()] == value


BAD = [
    ("CONTEXT_TOKENS_MAX", ["x", "-1", "1.5"]),
    ("OLLAMA_SLOTS", ["x", "0", "1025"]),
    ("OLLAMA_VERSION_MIN", ["new", "x.y"]),
    ("OLLAMA_WEDGE_SECONDS", ["x", "0"]),
    ("QUEUE_LENGTH_MAX", ["x", "-1"]),
    ("QUEUE_SECONDS_MAX", ["x", "-1"]),
    ("KEEP_ALIVE_SECONDS_MAX", ["x", "-1", "5m"]),
    ("ALLOW_CLOUD_MODELS", ["maybe"]),
    (
        "CORS_ORIGINS",
        ["chat.example.org", "https://*.example.org", "https://A.org", "https://a.org/x", "*,https://a.org", "null"],
    ),
    ("PULL_REGISTRIES", ["https://hf.co", "*", "hf.co/user", "HF.co"]),
    ("BEAT_SECONDS", ["0", "x"]),
    ("ROUTING_HEADERS", ["maybe"]),
    ("PORT", ["x", "-1", "65536", "80.5", "8,000", "0x50"]),
    ("DEBUG", ["maybe", "2", "truee"]),
    ("ADMIN_SECRET", ["short", SECRET]),
    ("ADMIN_SECRET_PREVIOUS", ["short", SECRET]),
    ("ADMIN_PORT", ["x", "-1", "65536", "8000"]),
    ("ADMIN_FAILURES_PER_MIN", ["0", "many"]),
    ("KEY_PEPPER", ["short", SECRET]),
    ("KEY_PEPPER_PREVIOUS", ["short", f"{PEPPER},{SECRET}"]),
    ("KEY_FAILURES_PER_MIN", ["0", "many"]),
    ("TRUSTED_PROXIES", ["here", "10.0.0.0/33", "10.0.0.1,nowhere"]),
    ("SHADOW_LIMITS", ["maybe"]),
    (
        "OLLAMA_BASE_URL",
        [
            "localhost:11434",
            "ftp://h",
            "http://",
            f"http://u:{SECRET}@h",
            f"http://h?token={SECRET}",
            "http://h#x",
            "http://[::1",
            "http://h:99999",
            "http://h:port",
            "http://a,b",
            ",",
        ],
    ),
    ("OLLAMA_TIMEOUT", ["0", "-1", "nan", "inf", "1e9", "soon"]),
    ("OLLAMA_CONNECT_TIMEOUT", ["0"]),
    ("OLLAMA_IDLE_TIMEOUT", ["0"]),
    ("OLLAMA_TOTAL_TIMEOUT", ["0"]),
    ("REDIS_URL", [f"http://:{SECRET}@h", "localhost:6379", f"redis://:{SECRET}@h℀st", f"redis://:{SECRET}@h:99999"]),
    ("REDIS_TIMEOUT_MS", ["9", "60001", "1.5"]),
    ("SHARDS", ["0", "3", "512", "-1"]),
    ("USAGE_STREAM_BYTES_MAX", ["1048575", "1MB"]),
    ("USAGE_MONTHS_KEPT", ["-1", "1201", "1.5", "all"]),
    ("WORKER_PORT", ["x", "-1", "65536"]),
    ("DATABASE_URL", [f"mysql://u:{SECRET}@h/db", "host=h", f"postgresql://u:{SECRET}@h℀st/db", "postgresql://[::1"]),
    ("DEFAULT_RATE_LIMIT_PER_MIN", ["0", "1000001", "many"]),
    ("DEFAULT_MONTHLY_TOKEN_LIMIT", ["0", "1000000000001"]),
    ("OUTPUT_TOKENS_MAX", ["0", "10000001"]),
    ("BODY_BYTES_MAX", ["0", "1023", "1000000001"]),
    ("API_KEY_PREFIX", ["a_b", "1a", "a" * 17, "ä", "-"]),
    ("BALANCER_SECONDS", ["-1", "601", "nan"]),
    ("DRAIN_SECONDS", ["0", "nan"]),
]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD for text in texts])
def test_a_bad_value_is_one_line_that_names_the_setting_and_no_secret(name: str, text: str) -> None:
    (line,) = problems({name: text})
    assert line.startswith(name)
    assert "\n" not in line
    assert SECRET not in line
    assert len(line) > len(name) + 10


def test_every_setting_with_a_form_has_a_bad_value_here() -> None:
    free = {"HOST", "DATA_DIR", "OLLAMA_DEFAULT_MODEL"}
    assert {name for name, _ in BAD} == set(NAMES) - free


def test_a_second_admin_secret_needs_a_first() -> None:
    one, other = PEPPER, PEPPER[::-1]
    (line,) = problems({"ADMIN_SECRET_PREVIOUS": one})
    assert "ADMIN_SECRET is not" in line
    both = load({"ADMIN_SECRET": other, "ADMIN_SECRET_PREVIOUS": one})
    assert both.admin_secrets() == (other, one)


def test_a_pepper_stays_as_it_is_when_it_becomes_a_former_one() -> None:
    pepper = PEPPER + "/"
    settings = load({"KEY_PEPPER": pepper, "KEY_PEPPER_PREVIOUS": pepper})
    assert settings.key_pepper_previous == (settings.key_pepper,)
    (line,) = problems({"KEY_PEPPER": f"{PEPPER},{PEPPER}"})
    assert "comma" in line


def test_there_is_one_line_for_each_bad_value() -> None:
    bad = {"PORT": "x", "DEBUG": "maybe", "REDIS_URL": "nowhere", "DATABASE_URL": "nowhere", "SHARDS": "3"}
    found = problems(bad)
    assert sorted(line.split(":")[0].split()[0] for line in found) == sorted(bad)


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(dotenv: Path) -> None:
    dotenv.write_text("PORT=1\nHOST=file\n")
    settings = load({"PORT": "2"}, dotenv)
    assert (settings.port, settings.host, settings.debug) == (2, "file", False)


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("HOST=a", "a"),
        ("  export HOST = a  ", "a"),
        ('HOST="a b # c"', "a b # c"),
        ("HOST='a'", "a"),
        ('HOST="a b" # why', "a b"),
        ('HOST="a" b', '"a" b'),
        ('HOST="a # b', '"a'),
        ("HOST=a # why", "a"),
        ("HOST=a#b", "a#b"),
        ("HOST=a=b", "a=b"),
        ('HOST="a', '"a'),
        ("# HOST=a", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("HOST=", "127.0.0.1"),
        ("HOST=a\nHOST=b", "b"),
        ("\ufeffHOST=a", "a"),
    ],
)
def test_the_file_is_read_as_such_files_are_written(dotenv: Path, line: str, host: str) -> None:
    dotenv.write_text(line, "utf-8")
    assert load({}, dotenv).host == host


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("PROT", "PORT"), ("REDIS_URI", "REDIS_URL"), ("port", "PORT"), ("OLLAMA_URL", "OLLAMA_BASE_URL"), ("XYZZY", "")],
)
def test_an_unknown_name_in_the_file_suggests_the_nearest(dotenv: Path, name: str, nearest: str) -> None:
    dotenv.write_text(f"DEBUG=1\n{name}={SECRET}\n")
    (line,) = problems({}, dotenv)
    assert line.startswith(f".env line 2: no setting is called {name}")
    assert line.endswith(f"(did you mean {nearest}?)") is bool(nearest)
    assert SECRET not in line


def test_a_line_that_is_none_is_named_by_its_number_alone(dotenv: Path) -> None:
    dotenv.write_text(f"DEBUG=1\n{SECRET}\n")
    assert problems({}, dotenv) == [".env line 2: expected NAME=value"]


def test_a_file_in_another_encoding_is_one_line_too(dotenv: Path) -> None:
    dotenv.write_bytes(b"HOST=\xff\xfe\n")
    (line,) = problems({}, dotenv)
    assert line.startswith(".env")


def test_unknown_names_in_the_environment_are_other_peoples() -> None:
    assert load({"PATH": "/bin", "PROT": "1"}) == Settings()


def test_a_missing_file_is_no_problem(dotenv: Path) -> None:
    assert load({}, dotenv) == load({}, None) == Settings()
