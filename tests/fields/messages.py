"""The fields of POST /v1/messages. Those of /v1/messages/count_tokens are among them."""

from typing import Any

from anthropic.types import message_count_tokens_params as count
from anthropic.types import message_create_params as params

from gateway.dialects.anthropic.messages import parse
from tests.fields import Field, Surface

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOLS: list[dict[str, Any]] = [{"name": "f", "input_schema": SCHEMA}]

SURFACE = Surface(
    route="/v1/messages",
    parse=parse,
    body={"model": "llama3.2:3b", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]},
    known=frozenset(params.MessageCreateParamsNonStreaming.__annotations__)
    | frozenset(params.MessageCreateParamsStreaming.__annotations__)
    | frozenset(count.MessageCountTokensParams.__annotations__),
    fields=[
        Field("model", "translated", "the backend gets its own spelling of the name", "qwen3:8b"),
        Field("max_tokens", "translated", "`options.num_predict`, within OUTPUT_TOKENS_MAX", 20),
        Field(
            "messages",
            "translated",
            "all blocks of a message in one, but each tool result in one of its own; images in base64 and documents of "
            "text alone; redacted thinking is dropped; other blocks are refused",
            [{"role": "user", "content": [{"type": "text", "text": "something else"}]}],
        ),
        Field("system", "translated", "the first message", "Be brief."),
        Field("stream", "translated", "events instead of one object", True),
        Field("temperature", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("top_p", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("top_k", "passed", "in `options`; absent, the model's own default stays", 5),
        Field(
            "stop_sequences",
            "translated",
            "looked for by the gateway, which says which one it was; 16 at most, of 256 characters",
            ["END"],
        ),
        Field("tools", "translated", "the client's own, schemas whole; Anthropic's tools are refused", TOOLS),
        Field(
            "tool_choice",
            "translated",
            "a forced call is a JSON schema the answer has to fit; so not together with a format; without parallel "
            "use, only the first call of an answer is kept",
            {"type": "any"},
            base={"tools": TOOLS},
        ),
        Field(
            "thinking",
            "translated",
            "to `think`, where the model can; absent: false; the budget is ignored; `between_tools` is refused",
            {"type": "adaptive"},
        ),
        Field(
            "output_config",
            "translated",
            "`effort`: the level of thinking, if there is any; `format`: to Ollama's `format`",
            {"format": {"type": "json_schema", "schema": SCHEMA}},
        ),
        Field(
            "output_format",
            "translated",
            "as `output_config.format`, for older clients",
            {"type": "json_schema", "schema": SCHEMA},
        ),
        Field("metadata", "translated", "`user_id`: `end_user` of the usage row", {"user_id": "somebody"}),
        Field("container", "refused", "nothing here runs code for a model", "container_1", "unsupported"),
        Field(
            "mcp_servers",
            "refused",
            "nothing here calls servers for a model",
            [{"type": "url", "url": "https://example.com", "name": "x"}],
            "unsupported",
        ),
        Field("thread", "refused", "nothing is ever stored: send all messages", {"type": "create"}, "unsupported"),
        Field("compaction", "refused", "ask for a summary in the messages", {"type": "summarize"}, "unsupported"),
        Field("cache_control", "ignored", "Ollama caches prompts by itself", {"type": "ephemeral"}),
        Field("context_management", "ignored", "the client's messages are what the model sees", {"edits": []}),
        Field("diagnostics", "ignored", "about Anthropic's cache", {"previous_message_id": None}),
        Field("inference_geo", "ignored", "all work is done on the operator's own nodes", "eu"),
        Field("service_tier", "ignored", "there is one tier", "auto"),
        Field("speed", "ignored", "there is one speed", "fast"),
        Field("user_profile_id", "ignored", "the key says who pays", "profile_1"),
        Field("workspace_id", "ignored", "the key says who asks", "wrkspc_1"),
        Field(
            "options",
            "translated",
            "extension: Ollama's own, within the operator's bounds; the request's own fields win",
            {"seed": 5},
        ),
        Field("keep_alive", "passed", "extension: Ollama's own, within KEEP_ALIVE_SECONDS_MAX", 300.0),
        Field("think", "passed", "extension: Ollama's own; wins over `thinking`", True),
        Field("truncate", "passed", "extension: Ollama's own; false: a prompt that is too long is an error", False),
        Field("_debug_render_only", "refused", "it shows a model's own system text", True, "render_blocked"),
    ],
)
