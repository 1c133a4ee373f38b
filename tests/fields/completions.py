"""The fields of POST /v1/completions."""

from openai.types import completion_create_params as params

from gateway.dialects.openai.completions import parse
from tests.fields import Field, Surface

SURFACE = Surface(
    route="/v1/completions",
    parse=parse,
    body={"model": "llama3.2:3b", "prompt": "Once upon"},
    known=frozenset(params.CompletionCreateParamsNonStreaming.__annotations__)
    | frozenset(params.CompletionCreateParamsStreaming.__annotations__),
    fields=[
        Field("model", "translated", "the backend gets its own spelling of the name", "qwen3:8b"),
        Field(
            "prompt",
            "passed",
            "a text, or up to 32, each with an answer of its own; token ids are refused, an empty one is blocked",
            "a time",
        ),
        Field("suffix", "passed", "for models that can insert", "The end."),
        Field("echo", "translated", "the prompt stands before the answer", True),
        Field("stream", "translated", "events instead of one object", True),
        Field(
            "stream_options",
            "translated",
            "`include_usage`: one more event with the counts; there is no padding to leave out",
            {"include_usage": True},
            base={"stream": True},
        ),
        Field(
            "max_tokens",
            "translated",
            "`options.num_predict`, within OUTPUT_TOKENS_MAX; absent, that much and not 16",
            20,
        ),
        Field("temperature", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("top_p", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("seed", "passed", "in `options`", 7),
        Field("presence_penalty", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("frequency_penalty", "passed", "in `options`; absent, the model's own default stays", 0.5),
        Field("stop", "translated", "in `options`, always as a list, of 16 at most", "END"),
        Field("logprobs", "translated", "`top_logprobs`; of the answer's tokens, not of the prompt's", 3),
        Field("user", "translated", "`end_user` of the usage row", "somebody"),
        Field("n", "refused", "one answer a call; 1 is fine", 2, "unsupported"),
        Field("best_of", "refused", "one answer a call; 1 is fine", 2, "unsupported"),
        Field("logit_bias", "refused", "Ollama cannot weigh single tokens", {"50256": -100}, "unsupported"),
        Field("raw", "passed", "extension: Ollama's own; the prompt goes to the model without its template", True),
        Field(
            "options",
            "translated",
            "extension: Ollama's own, without those that reload a model; `num_ctx` within CONTEXT_TOKENS_MAX",
            {"top_k": 5},
        ),
        Field("keep_alive", "passed", "extension: Ollama's own, within KEEP_ALIVE_SECONDS_MAX", 300.0),
        Field(
            "think",
            "refused",
            "a completion has no place for thoughts; false is what it always is",
            True,
            "unsupported",
        ),
        Field("truncate", "passed", "extension: Ollama's own; false: a prompt that is too long is an error", False),
        Field("_debug_render_only", "refused", "it shows a model's own system text", True, "render_blocked"),
    ],
)
