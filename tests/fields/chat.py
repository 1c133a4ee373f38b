"""The fields of POST /v1/chat/completions."""

from typing import Any

from openai.types.chat import completion_create_params as params

from gateway.dialects.openai.chat import parse
from tests.fields import Field, Surface

TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}

SURFACE = Surface(
    route="/v1/chat/completions",
    parse=parse,
    body={"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}]},
    known=frozenset(params.CompletionCreateParamsNonStreaming.__annotations__)
    | frozenset(params.CompletionCreateParamsStreaming.__annotations__),
    fields=[
        Field("model", "translated", "the backend gets its own spelling of the name", "qwen3:8b"),
        Field(
            "messages",
            "translated",
            "text, refusals and images as data URIs, all parts in one message; developer becomes system; a tool's "
            "answer gets its tool's name; audio, files and role function are refused",
            [{"role": "developer", "content": "something else"}],
        ),
        Field("stream", "translated", "events instead of one object", True),
        Field(
            "stream_options",
            "translated",
            "`include_usage`: one more event with the counts; there is no padding to leave out",
            {"include_usage": True},
            base={"stream": True},
        ),
        Field("max_completion_tokens", "translated", "`options.num_predict`, within OUTPUT_TOKENS_MAX", 20),
        Field("max_tokens", "translated", "the same, if there is no `max_completion_tokens`", 20),
        Field("temperature", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("top_p", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("seed", "passed", "in `options`", 7),
        Field("presence_penalty", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("frequency_penalty", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("stop", "translated", "in `options`, always as a list, of 16 at most", "END"),
        Field("logprobs", "passed", "the answer has every field of OpenAI's type", True),
        Field("top_logprobs", "passed", "with `logprobs` only, as with OpenAI", 3, base={"logprobs": True}),
        Field(
            "response_format",
            "translated",
            "to Ollama's `format`: json_object, or the schema of json_schema",
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        ),
        Field("reasoning_effort", "translated", "to `think`, where the model can", "low"),
        Field("tools", "translated", "functions, schemas whole, without `strict`; custom tools are refused", TOOLS),
        Field(
            "tool_choice",
            "translated",
            "a forced call is a JSON schema the answer has to fit; so not together with a format",
            "required",
            base={"tools": TOOLS},
        ),
        Field("parallel_tool_calls", "translated", "false: only the first call of an answer is kept", False),
        Field("user", "translated", "`end_user` of the usage row", "somebody"),
        Field("safety_identifier", "translated", "`end_user` of the usage row, if there is no `user`", "somebody"),
        Field("n", "refused", "one answer a call; 1 is fine", 2, "unsupported"),
        Field("logit_bias", "refused", "Ollama cannot weigh single tokens", {"50256": -100}, "unsupported"),
        Field("modalities", "refused", "text alone", ["text", "audio"], "unsupported"),
        Field("audio", "refused", "text alone", {"voice": "ash", "format": "mp3"}, "unsupported"),
        Field("web_search_options", "refused", "nothing here searches the web", {}, "unsupported"),
        Field("moderation", "refused", "nothing here moderates", {"model": "omni-moderation-latest"}, "unsupported"),
        Field("functions", "refused", "use `tools`", [{"name": "f"}], "unsupported"),
        Field("function_call", "refused", "use `tool_choice`", "auto", "unsupported"),
        Field("store", "ignored", "nothing is ever stored", True),
        Field("metadata", "ignored", "belongs to `store`", {"a": "b"}),
        Field("service_tier", "ignored", "there is one tier", "flex"),
        Field("prediction", "ignored", "only makes OpenAI's servers quicker", {"type": "content", "content": "x"}),
        Field("verbosity", "ignored", "Ollama's models have no such dial: ask for it in the prompt", "low"),
        Field("prompt_cache_key", "ignored", "Ollama caches prompts by itself", "a"),
        Field("prompt_cache_options", "ignored", "Ollama caches prompts by itself", {"mode": "implicit"}),
        Field("prompt_cache_retention", "ignored", "Ollama caches prompts by itself", "24h"),
        Field("reasoning", "translated", "extension: OpenRouter's form of `reasoning_effort`", {"effort": "low"}),
        Field(
            "options",
            "translated",
            "extension: Ollama's own, without those that reload a model; `num_ctx` within CONTEXT_TOKENS_MAX",
            {"top_k": 5},
        ),
        Field("keep_alive", "passed", "extension: Ollama's own, within KEEP_ALIVE_SECONDS_MAX", 300.0),
        Field("think", "passed", "extension: Ollama's own; wins over `reasoning_effort`", True),
        Field("truncate", "passed", "extension: Ollama's own; false: a prompt that is too long is an error", False),
        Field("_debug_render_only", "refused", "it shows a model's own system text", True, "render_blocked"),
    ],
)
