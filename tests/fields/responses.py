"""The fields of POST /v1/responses."""

from typing import Any

from openai.types.responses import response_create_params as params

from gateway.dialects.openai.responses import parse
from gateway.dialects.openai.responses_request import LOGPROBS
from tests.fields import Field, Surface

TOOLS: list[dict[str, Any]] = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}

SURFACE = Surface(
    route="/v1/responses",
    parse=parse,
    body={"model": "llama3.2:3b", "input": "hi"},
    known=frozenset(params.ResponseCreateParamsNonStreaming.__annotations__)
    | frozenset(params.ResponseCreateParamsStreaming.__annotations__),
    fields=[
        Field("model", "translated", "the backend gets its own spelling of the name", "qwen3:8b"),
        Field(
            "input",
            "translated",
            "text, or items: messages, reasoning, function_call, function_call_output; those of an assistant that "
            "follow each other become one message; images as data URIs",
            [{"role": "user", "content": "something else"}],
        ),
        Field("instructions", "translated", "the first system message", "Be brief."),
        Field("stream", "translated", "events instead of one object", True),
        Field("max_output_tokens", "translated", "`options.num_predict`, within OUTPUT_TOKENS_MAX", 20),
        Field("temperature", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("top_p", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("top_logprobs", "passed", "if `include` asks for logprobs", 3, base={"include": [LOGPROBS]}),
        Field(
            "include",
            "translated",
            "`message.output_text.logprobs` asks for them; `reasoning.encrypted_content` is null; the other values "
            "belong to items that no answer here has",
            [LOGPROBS],
        ),
        Field(
            "reasoning",
            "translated",
            "`effort` to `think`, where the model can; thoughts always come as summaries; `mode` only standard",
            {"effort": "low"},
        ),
        Field(
            "text",
            "translated",
            "`format` to Ollama's `format`; `verbosity` is ignored",
            {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
        ),
        Field("tools", "translated", "functions, schemas whole; those that OpenAI's servers run are refused", TOOLS),
        Field(
            "tool_choice",
            "translated",
            "a forced call is a JSON schema the answer has to fit; so not together with a format",
            "required",
            base={"tools": TOOLS},
        ),
        Field("parallel_tool_calls", "translated", "false: only the first call of an answer is kept", False),
        Field(
            "truncation",
            "translated",
            "to `truncate`: auto true, disabled false; absent, the backend's way, which is to cut",
            "disabled",
        ),
        Field("metadata", "translated", "told back, within OpenAI's bounds", {"a": "b"}),
        Field("safety_identifier", "translated", "`end_user` of the usage row; told back", "somebody"),
        Field("user", "translated", "`end_user` of the usage row, if there is no `safety_identifier`", "somebody"),
        Field("previous_response_id", "refused", "the gateway keeps no conversations", "resp_1", "unsupported"),
        Field("conversation", "refused", "the gateway keeps no conversations", "conv_1", "unsupported"),
        Field("prompt", "refused", "the gateway keeps no prompts", {"id": "pmpt_1"}, "unsupported"),
        Field("background", "refused", "the gateway keeps no answers; false is fine", True, "unsupported"),
        Field(
            "context_management",
            "refused",
            "nothing here compacts conversations",
            [{"type": "compaction"}],
            "unsupported",
        ),
        Field("moderation", "refused", "nothing here moderates", {"model": "omni-moderation-latest"}, "unsupported"),
        Field("store", "ignored", "nothing is ever stored; the answer says so", True),
        Field("stream_options", "ignored", "only about padding, of which there is none", {"include_obfuscation": True}),
        Field("max_tool_calls", "ignored", "bounds tools that servers run, of which there are none", 3),
        Field("background_options", "ignored", "only for `background`", {"completion_window": "soonest"}),
        Field("service_tier", "ignored", "there is one tier", "flex"),
        Field("prompt_cache_key", "ignored", "Ollama caches prompts by itself", "a"),
        Field("prompt_cache_options", "ignored", "Ollama caches prompts by itself", {"mode": "implicit"}),
        Field("prompt_cache_retention", "ignored", "Ollama caches prompts by itself", "24h"),
        Field("access_programs", "ignored", "OpenAI's own", {"cyber": "standard"}),
        Field("image", "ignored", "OpenAI's own; images go to the model as they are", {"context_compression": "auto"}),
        Field("options", "passed", "extension: Ollama's own, within the operator's bounds", {"top_k": 5}),
        Field("keep_alive", "passed", "extension: Ollama's own, within KEEP_ALIVE_SECONDS_MAX", 300.0),
        Field("think", "passed", "extension: Ollama's own; wins over `reasoning.effort`", True),
        Field("truncate", "passed", "extension: Ollama's own; wins over `truncation`", True),
        Field("_debug_render_only", "refused", "it shows a model's own system text", True, "render_blocked"),
    ],
)
