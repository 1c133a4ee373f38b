"""Whether calls are traced: what the environment may ask for."""

import io
import sys

import pytest

from gateway.settings import SettingsError
from gateway.telemetry import tracing
from gateway.telemetry.logs import Log
from gateway.telemetry.tracing import Untraced

ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def chosen(environ: dict[str, str]) -> object:
    return tracing.chosen(environ, Log(lambda: 0.0, io.StringIO()), "1")


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ASKED | {"OTEL_SDK_DISABLED": "True"}, {"OTEL_SERVICE_NAME": "x"}],
)
def test_nobody_asked_for_spans(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gateway.telemetry.spans", None)
    assert chosen(environ) is Untraced


def test_without_the_sdk_the_start_stops_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry") or name.endswith("telemetry.spans")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*llm-gateway\[traces\]"):
        chosen(ASKED)


@pytest.mark.parametrize("name", tracing.PROTOCOLS)
def test_only_one_protocol_is_spoken(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: spans are only sent as http/protobuf"):
        chosen(ASKED | {name: "grpc"})
    assert chosen(ASKED | {name: "http/protobuf"}) is not Untraced
