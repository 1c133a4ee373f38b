"""What the fake Ollama answers: a small deterministic text, in exactly the framing of the recorded exchanges.

Markers in capitals between round brackets in the prompt ask for the recorded special cases:
(THINK) (TOOL) (THINK TOOL) reasoning, a tool call · (LIMIT) done_reason "length" · (MIDERR) an error after the first
token · (NODONE) an end without done:true · (REJECT) prompt longer than the context.
"""

import hashlib
import random
import re
from typing import Any

import msgspec

from gateway.dev.fake_generation import Generation
from gateway.dev.fake_prompts import parts_of, tokens_of

DEFAULT_TEXT = "Blue light scatters most."
MIDSTREAM_ERROR = "llama-server chat error: map[code:500 message:Compute error type:server_error]"
TOO_LONG = (
    '{"error": {"code": 400, "message": "request (9000 tokens) exceeds the available context size (4096 tokens), try '
    'increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}}'
)
TOKENS_MAX = 1_000_000
_WORDS = (" light", " scatters", " most", " of", " all", " in", " air")
_EXAMPLES = {"string": "Oslo", "integer": 2, "number": 1.5, "boolean": True, "array": [], "object": {}}
_encode = msgspec.json.Encoder().encode


def generate(path: str, body: dict[str, Any], thinks: bool, text: str | None, tokens: int | None) -> Generation:
    """The answer to a valid request. `text` or `tokens` (their number) replace the usual small answer."""
    parts = parts_of(path, body)
    prompt = " ".join(part.text for part in parts)
    markers = set(" ".join(re.findall(r"\(([A-Z ]+)\)", prompt)).split())
    wanted = bool(body.get("think")) or ("THINK" in markers and body.get("think") is not False)
    tools = body.get("tools") or []
    calls = [_tool_call(tools[0])] if tools and "TOOL" in markers else []
    answer = Generation(
        path=path,
        streamed=body.get("stream", True),
        model=body["model"],
        thoughts=["The user asks", " about Oslo." if calls else " about the sky."] if thinks and wanted else [],
        tokens=[] if calls else _tokens(body, text, tokens),
        tool_calls=calls,
        prompt_tokens=tokens_of(parts),
        logprobs=bool(body.get("logprobs")),
        with_context=path == "/api/generate" and not body.get("raw"),
        ends="NODONE" not in markers,
        error=MIDSTREAM_ERROR if "MIDERR" in markers else TOO_LONG if "REJECT" in markers else None,
    )
    most = (body.get("options") or {}).get("num_predict", -1)
    if answer.error:
        answer.cut(1 if "MIDERR" in markers else 0)
    elif 0 <= most < answer.count:
        answer.cut(most)
        answer.done_reason = "length"
    elif "LIMIT" in markers:
        answer.done_reason = "length"
    return answer


def embedding(text: str, length: int) -> list[float]:
    """A vector of length 1 that depends on the text alone."""
    chance = random.Random(hashlib.sha256(text.encode()).digest())
    vector = [chance.gauss(0, 1) for _ in range(length)]
    norm = sum(value * value for value in vector) ** 0.5
    return [round(value / norm, 8) for value in vector]


def _tokens(body: dict[str, Any], text: str | None, tokens: int | None) -> list[str]:
    if text is not None:
        return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)
    if tokens is not None:
        return [_WORDS[n % len(_WORDS)] if n else "Blue" for n in range(min(tokens, TOKENS_MAX))]
    if form := body.get("format"):
        schema = form if isinstance(form, dict) else {"properties": {"answer": {"type": "string"}}}
        return re.findall(r"[\w ]+|\W+", _encode(_example(schema)).decode())
    return re.findall(r"\s*\w+|\W", DEFAULT_TEXT)


def _tool_call(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function") or {}
    arguments = _example(function.get("parameters") or {})
    given = arguments if isinstance(arguments, dict) else {}  # a call's are an object, whatever its schema says
    call = {"index": 0, "name": function.get("name", ""), "arguments": given}
    return {"id": "q7Zt0mK1aB3cD5eF7gH9iJ1kL3mN5oP7", "function": call}


def _example(schema: Any) -> Any:
    """Something that fits a JSON Schema of the simple kind; of any other kind, something."""
    if not isinstance(schema, dict):
        return "Oslo"
    enum, properties = schema.get("enum"), schema.get("properties")
    if isinstance(enum, list) and enum:
        return enum[0]
    if isinstance(properties, dict) or not schema:
        return {name: _example(part) for name, part in (properties or {}).items()}
    return _EXAMPLES.get(str(schema.get("type")), "Oslo")
