"""One frozen record of all settings, read once from the environment and `.env`, strictly.

A value that cannot be used, or a name in `.env` that no setting has, stops the start with one line each. Nothing else
in the gateway reads the environment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from gateway import checks, secret_file
from gateway.core.keys import SHARDS_MAX
from gateway.core.limits import Limits
from gateway.core.usage import STREAM_BYTES_MAX
from gateway.dotenv import read as read_dotenv

ADDRESSES = ("OLLAMA_BASE_URL", "CORS_ORIGINS")
"""lists in which a slash at an end means nothing"""
FROM_FILES = (
    "ADMIN_SECRET", "ADMIN_SECRET_PREVIOUS", "KEY_PEPPER", "KEY_PEPPER_PREVIOUS", "REDIS_URL", "DATABASE_URL",
)  # fmt: skip
"""settings that hold secrets: each may be given as NAME_FILE, the name of a file that has the value"""
FILE = "_FILE"


class SettingsError(Exception):
    """The configuration cannot be used. `problems` holds one line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _about(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Settings(Struct, frozen=True, kw_only=True, rename="upper"):
    """Every setting with its default. Times are in seconds unless the name says otherwise."""

    host: Annotated[str, _about("Address the gateway listens on.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, _about("Port the gateway listens on; 0 lets the system choose.", ge=0, le=65535)] = 8000
    debug: Annotated[bool, _about("Log more. Never logs keys, prompts or completions.")] = False
    data_dir: Annotated[str, _about("Where `up` keeps its servers' state and secrets.", min_length=1)] = "./.data"
    admin_secret: Annotated[
        str, _about("Opens the admin API (X-Admin-Secret), at least 16 characters; empty: the admin API is off.")
    ] = ""
    admin_secret_previous: Annotated[
        str, _about("A second admin secret that works too, for a rotation without an outage.")
    ] = ""
    admin_port: Annotated[
        int,
        _about(
            "Port of its own for the admin API and /metrics, which PORT then has no more; 0: they are on PORT.",
            ge=0,
            le=65535,
        ),
    ] = 0
    worker_port: Annotated[
        int, _about("Port on which a worker tells its /metrics and /healthz; 0: none.", ge=0, le=65535)
    ] = 0
    admin_failures_per_min: Annotated[
        int, _about("Wrong admin secrets an address may send a minute before it is not heard.", ge=1, le=1_000_000)
    ] = 5
    key_pepper: Annotated[
        str, _about("Makes the stored digests of keys HMACs, at least 32 characters; empty: plain SHA-256.")
    ] = ""
    key_pepper_previous: Annotated[
        tuple[str, ...], _about("Former peppers, comma-separated: keys stored under them go on working.")
    ] = ()
    key_failures_per_min: Annotated[
        int,
        _about("Requests without a valid key an address may send a minute before 401 turns 429.", ge=1, le=1_000_000),
    ] = 20
    trusted_proxies: Annotated[
        tuple[str, ...],
        _about("Networks of proxies whose X-Forwarded-For is believed, as CIDRs; else all their clients are one."),
    ] = ()
    shadow_limits: Annotated[
        bool, _about("Count what limits would refuse, and refuse nobody. Invalid keys are refused all the same.")
    ] = False
    ollama_base_url: Annotated[tuple[str, ...], _about("Ollama nodes, comma-separated.", min_length=1)] = (
        "http://localhost:11434",
    )
    ollama_default_model: Annotated[
        str, _about("Model of plain requests that name none; empty: the first one the fleet has.")
    ] = ""
    ollama_timeout: Annotated[
        Seconds, _about("Longest wait for the first byte of a streamed answer, or for all of one that is not streamed.")
    ] = 300.0
    ollama_connect_timeout: Annotated[Seconds, _about("Longest wait for a connection to a node.")] = 5.0
    ollama_idle_timeout: Annotated[Seconds, _about("Longest silence within a streamed answer.")] = 60.0
    ollama_total_timeout: Annotated[Seconds, _about("Longest whole answer.")] = 1800.0
    ollama_slots: Annotated[int, _about("Calls a node works on at a time: its OLLAMA_NUM_PARALLEL.", ge=1, le=1024)] = 4
    ollama_version_min: Annotated[
        str, _about("Nodes with an older Ollama get no calls; empty: they do, and their known holes are told.")
    ] = ""
    ollama_wedge_seconds: Annotated[
        Seconds, _about("Silence after which a loaded model that answers nobody is unloaded, once.")
    ] = 60.0
    queue_length_max: Annotated[int, _about("Calls that may wait for one model.", ge=0, le=100_000)] = 1_000
    queue_seconds_max: Annotated[
        float, _about("Longest wait for a free slot; a request may ask for less (x-max-wait-ms).", ge=0, le=86_400)
    ] = 60.0
    redis_url: Annotated[
        str,
        _about(
            "Redis >= 7 or Valkey >= 7.2, as redis://, rediss:// or unix://; a cluster as redis+cluster:// or "
            "rediss+cluster:// with one or more of its nodes, comma-separated; empty: `up` embeds one."
        ),
    ] = ""
    redis_timeout_ms: Annotated[int, _about("Longest wait for one decision of Redis.", ge=10, le=60_000)] = 250
    shards: Annotated[
        int, _about("Hash tags the keys are spread over: 1 for one Redis, 16 for a cluster.", ge=1, le=SHARDS_MAX)
    ] = 1
    usage_stream_bytes_max: Annotated[
        int,
        _about(
            "Memory of Redis that usage events may take, of all shards together; beyond it new calls are refused.",
            ge=2**20,
            le=2**50,
        ),
    ] = STREAM_BYTES_MAX
    database_url: Annotated[str, _about("Postgres >= 14, as postgresql://; empty: `up` embeds one.")] = ""
    usage_months_kept: Annotated[
        int, _about("Months, with this one, of which calls and hourly sums are kept; 0: all.", ge=0, le=1_200)
    ] = 0
    default_rate_limit_per_min: Annotated[
        int, _about("Requests a minute of a key that says nothing else.", ge=1, le=1_000_000)
    ] = 20
    default_monthly_token_limit: Annotated[
        int, _about("Tokens a calendar month (UTC) of a key that says nothing else.", ge=1, le=10**12)
    ] = 1_000_000
    output_tokens_max: Annotated[
        int, _about("Most tokens one answer may have; requests may ask for less.", ge=1, le=10**7)
    ] = 16_384
    context_tokens_max: Annotated[
        int, _about("Largest num_ctx a request may ask for; 0: none may, as it reloads the model.", ge=0, le=10**7)
    ] = 32_768
    keep_alive_seconds_max: Annotated[
        float, _about("Longest a request may keep its model loaded; 0: requests have no say.", ge=0, le=31_536_000)
    ] = 3600.0
    allow_cloud_models: Annotated[
        bool, _about("Serve models that nodes forward to ollama.com. Prompts leave the site.")
    ] = False
    pull_registries: Annotated[
        tuple[str, ...], _about("Registries models may be pulled from, comma-separated host names.")
    ] = ("registry.ollama.ai",)
    beat_seconds: Annotated[
        Seconds, _about("Silence in a stream of events after which a sign of life is sent, for proxies.")
    ] = 15.0
    routing_headers: Annotated[
        bool, _about("Tell clients the backend and its times: x-gateway-backend, -queue-ms, -upstream-ms.")
    ] = False
    body_bytes_max: Annotated[int, _about("Largest request body, in bytes.", ge=1_024, le=10**9)] = 10_000_000
    api_key_prefix: Annotated[
        str, _about("What every API key of this gateway starts with.", pattern="^[A-Za-z][A-Za-z0-9-]{0,15}$")
    ] = "llm"
    cors_origins: Annotated[
        tuple[str, ...], _about("Origins whose pages may call the API, comma-separated; `*` for all.")
    ] = ()
    balancer_seconds: Annotated[
        float,
        _about(
            "How long /ready says no after SIGTERM before connections are refused. Longer than balancers keep a "
            "connection idle.",
            ge=0,
            le=600,
        ),
    ] = 0.0
    drain_seconds: Annotated[
        Seconds, _about("How long running calls may go on after SIGTERM before they are cut and settled.")
    ] = 20.0

    def __repr__(self) -> str:
        return f"<Settings {self.host}:{self.port}>"  # never a secret or a connection string

    def defaults(self) -> Limits:
        """The limits of a key that says nothing of them, and whose tier says nothing either."""
        return Limits(
            rate_limit_per_min=self.default_rate_limit_per_min, monthly_token_limit=self.default_monthly_token_limit
        )

    def admin_secrets(self) -> tuple[str, ...]:
        """Those that open the admin API; none: it is off."""
        return tuple(secret for secret in (self.admin_secret, self.admin_secret_previous) if secret)


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NAMES: tuple[str, ...] = tuple(field.encode_name for field in msgspec.structs.fields(Settings))
WRITTEN_NAMES = (*NAMES, *(name + FILE for name in FROM_FILES))


def load(env: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """Settings from `env` over `dotenv` over the defaults.

    Raises `SettingsError` with one line for each bad value and each name in `dotenv` that no setting has.
    """
    problems: list[str] = []
    written = read_dotenv(dotenv, WRITTEN_NAMES, problems) if dotenv and dotenv.is_file() else {}
    values: dict[str, Any] = {}
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        name = field.encode_name
        text = _given(name, env, problems)
        if text is None:
            text = _given(name, written, problems)
        if text is None or (text.strip() == "" and field.default != ""):
            continue
        try:
            values[name] = _value(name, text.strip(), hints[field.name])
        except msgspec.ValidationError as error:
            problems.append(f"{name}: {_say(error)}")
    problems += filter(None, (checks.problem(name, value) for name, value in values.items()))
    if not problems and values.get("ADMIN_SECRET_PREVIOUS") and not values.get("ADMIN_SECRET"):
        problems.append("ADMIN_SECRET_PREVIOUS is set, but ADMIN_SECRET is not: without it the admin API is off")
    if values.get("ADMIN_PORT") and values["ADMIN_PORT"] == values.get("PORT", Settings().port):
        problems.append("ADMIN_PORT is PORT: choose another one, or leave it out")
    if problems:
        raise SettingsError(problems)
    return msgspec.convert(values, Settings)


def _given(name: str, source: Mapping[str, str], problems: list[str]) -> str | None:
    """What a source says of a setting, itself or by a file; None: nothing. An empty file name is none."""
    text = source.get(name)
    path = source.get(name + FILE, "").strip() if name in FROM_FILES else ""
    if not path:
        return text
    if text and text.strip():
        problems.append(f"{name} and {name}{FILE} are both set: leave one of them out")
        return ""
    try:
        return secret_file.read(path)
    except secret_file.SecretFileUnusable as error:
        problems.append(f"{name}{FILE}: {error}")
        return ""


def _value(name: str, text: str, hint: Any) -> Any:
    """The text as the setting's type. Lists are comma-separated; booleans are true/false, yes/no, on/off, 1/0."""
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    raw: Any = text
    if get_origin(base) is tuple:
        ending = "/" if name in ADDRESSES else ""
        raw = [part.strip().rstrip(ending) for part in text.split(",") if part.strip()]
    elif base is bool:
        raw = _WORDS.get(text.lower(), text)
    return msgspec.convert(raw, hint, strict=False)


def _say(error: msgspec.ValidationError) -> str:
    """msgspec's words as people put them; they hold types and bounds, never the value."""
    text = str(error).split(" - at ")[0].split(", got ")[0]
    if "`array`" in text:
        return "must not be empty"
    for kind, words in _KINDS.items():
        text = text.replace(f"Expected `{kind}`", f"must be {words}")
    return text
