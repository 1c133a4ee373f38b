"""Whether calls are traced, which the environment says as for every program that OpenTelemetry's SDK is in.

Without an address to send spans to nothing of the SDK is imported, and the context that a request came with is passed
on to the backend as it is.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Protocol

from gateway.core import trace
from gateway.core.call import Admission, Bill, Call
from gateway.core.trace import Trace
from gateway.errors import GatewayError
from gateway.settings import SettingsError
from gateway.telemetry.logs import Log

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
HTTP = "http/protobuf"
DISABLED = "OTEL_SDK_DISABLED"
EXPORTER = "OTEL_TRACES_EXPORTER"


class Tracing(Protocol):
    """Makes the spans of calls. Never waits; never raises but from `end`."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
        """The trace that a request is part of from now on."""

    def ended(self, call: Call, admission: Admission, bill: Bill, model: str) -> None:
        """A call has ended. `model`: its name, as it may be shown."""

    def refused(self, call: Call, error: GatewayError, response_time_ms: int, model: str) -> None:
        """A call of a known key was refused."""

    async def end(self, seconds: float) -> None:
        """Send what is left, for so long at most."""


class Untraced:
    """Passes contexts on."""

    begin = staticmethod(trace.presented)

    def ended(self, call: Call, admission: Admission, bill: Bill, model: str) -> None:
        pass

    def refused(self, call: Call, error: GatewayError, response_time_ms: int, model: str) -> None:
        pass

    async def end(self, seconds: float) -> None:
        pass


def chosen(environ: Mapping[str, str], log: Log, version: str) -> Callable[[], Tracing]:
    """What makes the tracing that the environment asks for. Raises `SettingsError` when that cannot be had."""
    asked = next((name for name in ENDPOINTS if environ.get(name)), None)
    off = environ.get(DISABLED, "").strip().lower() == "true" or environ.get(EXPORTER, "").strip().lower() == "none"
    if asked is None or off:
        return Untraced
    if problems := [
        f"{name}: spans are only sent as {HTTP}" for name in PROTOCOLS if environ.get(name, HTTP) not in ("", HTTP)
    ]:
        raise SettingsError(problems)
    try:
        spans = import_module("gateway.telemetry.spans")
    except ImportError:
        advice = "install `llm-gateway[traces]`, or unset it"
        raise SettingsError([f"{asked} is set, but OpenTelemetry's SDK is not installed: {advice}"]) from None
    try:
        made: Tracing = spans.Spans(log, version)
    except ValueError as error:  # what the SDK makes of variables of its own
        raise SettingsError([f"an OTEL_ variable cannot be used: {error}"]) from None
    return lambda: made
