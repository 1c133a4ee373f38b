"""However a backend's answer is cut and joined on its way, its client gets the same bytes, in every dialect.

Goal: nothing in the gateway may depend on where the network cut a body. Method: every recorded body, cut in two at
every byte and joined at random, through the framing and each dialect's renderer.
"""

from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import ollama, plain
from gateway.dialects.asked import Asked, Renderer
from gateway.dialects.frames import Lines
from gateway.errors import GatewayError, StreamBroken
from tests import exchanges
from tests.fields import surfaces

STREAMED = [
    one
    for one in exchanges.recorded("A", "B", "J")
    if one["response"]["status"] == 200 and one["response"]["chunks"] is not None
]
BODIES = {one["name"]: one["response"]["body"].encode() for one in STREAMED}
PARSERS = {one.route: (one.parse, one.body) for one in surfaces() if "embed" not in one.route}
PARSERS["/v1/generate"] = (plain.parse, {"prompt": "hi"})
TOOL = {"type": "function", "function": {"name": "get_weather"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"stream_options": {"include_usage": True}, "tools": [TOOL], "tool_choice": "required"},
    "/v1/responses": {"tools": [{"type": "function", "name": "get_weather"}], "parallel_tool_calls": False},
    "/v1/messages": {"stop_sequences": ["scatters m", "zzz"], "thinking": {"type": "enabled", "budget_tokens": 1_024}},
}
"""what makes an answer depend on more than one line"""


@cache
def asked(route: str, *, special: bool) -> Asked:
    parse, body = PARSERS[route]
    return parse(msgspec.json.encode(body | {"stream": True} | (OPTIONS.get(route, {}) if special else {})))


def rendered(renderer: Renderer, pieces: list[bytes]) -> bytes:
    """What a client gets of these pieces, up to the end or the failure."""
    out, lines = b"", Lines()
    try:
        for batch in (*(lines.feed(piece) for piece in pieces), lines.rest()):
            for line in batch:
                reply = ollama.read(line)
                if reply.done:
                    return out + renderer.last(reply, reply.counts())
                out += renderer.feed(reply)
                if renderer.ended:
                    return out + renderer.last(ollama.CUT, ollama.CUT.counts())
    except GatewayError as error:
        return out + renderer.error(error)
    return out + renderer.error(StreamBroken())


def test_there_are_bodies_and_surfaces_of_every_kind() -> None:
    assert {"chat-stream", "chat-think-tools-stream-native", "chat-midstream-error", "generate-stream"} <= set(BODIES)
    assert len(PARSERS) >= 7


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("route", PARSERS)
@pytest.mark.parametrize("name", BODIES)
def test_a_cut_at_any_byte_changes_nothing(name: str, route: str, special: bool) -> None:
    body, request = BODIES[name], asked(route, special=special)
    meant = rendered(request.renderer("id", 1), [body])
    assert meant
    for at in range(1, len(body)):
        assert rendered(request.renderer("id", 1), [body[:at], body[at:]]) == meant, at


@pytest.mark.parametrize("route", PARSERS)
@given(name=st.sampled_from(sorted(BODIES)), data=st.data())
def test_pieces_joined_at_random_change_nothing(route: str, name: str, data: Any) -> None:
    body = BODIES[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=40)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    request = asked(route, special=True)
    assert rendered(request.renderer("id", 1), pieces) == rendered(request.renderer("id", 1), [body])
