"""POST /v1/completions: a prompt in, its continuation out, in OpenAI's older form."""

from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.core.tally import Counts
from gateway.dialects import asked as spoke
from gateway.dialects.asked import Asked
from gateway.dialects.extension import Extension
from gateway.dialects.frames import SSE_DONE, sse
from gateway.dialects.ollama import GenerateRequest, Reply
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai import logprobs as openai_logprobs
from gateway.dialects.openai.chat import Count, StreamOptions
from gateway.dialects.openai.chat_answer import Envelope, finish, usage
from gateway.errors import GatewayError, LoadBlocked, Unsupported

_KIND = "text_completion"


class CompletionRequest(Extension, kw_only=True):
    """What is read of the request. `raw` is Ollama's own: the prompt goes to the model without its template."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | list[str | int | list[int]] | None = None
    suffix: str | None = None
    raw: bool | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    user: str | None = None
    n: int | None = None
    best_of: int | None = None
    logit_bias: dict[str, float] | None = None


_request = msgspec.json.Decoder(CompletionRequest)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError`, `BadRequest` or `LoadBlocked`."""
    asked = _request.decode(body)
    _refuse(asked)
    prompt = _prompt(asked)
    include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    return Asked(
        model=asked.model,
        upstream=_upstream(asked, prompt),
        streamed=bool(asked.stream),
        output_tokens_max=asked.output_tokens_max(asked.max_tokens),
        end_user=asked.user or "",
        renderer=partial(Renderer, asked.model, include_usage, prompt if asked.echo else ""),
    )


def _upstream(asked: CompletionRequest, prompt: str) -> GenerateRequest:
    """The request of the hub. Nothing is thought, for a completion has no place for it."""
    return GenerateRequest(
        prompt=prompt,
        suffix=asked.suffix or "",
        raw=bool(asked.raw),
        options=asked.sampling(
            stop=asked.stop,
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
        ),
        logprobs=asked.logprobs is not None,
        top_logprobs=asked.logprobs or 0,
        **asked.beyond_messages() | {"think": False},
    )


def _refuse(asked: CompletionRequest) -> None:
    """Raises for what nothing here can do, rather than give another answer than was asked for."""
    words = "This gateway gives one answer a call: leave out `{}`, or make several calls."
    refused = {
        "n": (asked.n not in (None, 1), words.format("n")),
        "best_of": (asked.best_of not in (None, 1), words.format("best_of")),
        "logit_bias": (asked.logit_bias, "Ollama cannot weigh single tokens: leave out `logit_bias`."),
        "think": (asked.think, "A completion has no place for what a model thinks: use /v1/chat/completions."),
        "suffix": (asked.raw and asked.suffix, "A `suffix` needs the model's template, which `raw` leaves out."),
    }
    for name, (is_asked, reason) in refused.items():
        if is_asked:
            raise Unsupported(reason, param=name)


def _prompt(asked: CompletionRequest) -> str:
    """The one prompt of the request. Raises `LoadBlocked` when it is empty: that would only load the model."""
    prompt = asked.prompt or ""
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str) or not prompt[0]:
            raise Unsupported(
                "This gateway takes one prompt a call, as text and not as token ids: make several calls.",
                param="prompt",
            )
        prompt = prompt[0]
    if not prompt:
        raise LoadBlocked(param="prompt")
    return prompt


class Renderer(spoke.Renderer):
    """Turns the hub's answer into OpenAI's completion. `echo` stands before it. What the model thought is left out."""

    def __init__(self, model: str, include_usage: bool, echo: str, call_id: str, created_s: int) -> None:
        self._envelope = Envelope(f"cmpl-{call_id.replace('-', '')}", model, created_s)
        self._include_usage = include_usage
        self._echo = echo
        self._chars = 0

    def feed(self, reply: Reply) -> bytes:
        return self._frame(reply) if reply.text or reply.logprobs else b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        frames = self._frame(reply) if reply.text or reply.logprobs or self._echo else b""
        end = {"index": 0, "text": "", "logprobs": None, "finish_reason": finish(reply)}
        frames += self._envelope.frame(_KIND, [end])
        if self._include_usage:
            frames += self._envelope.frame(_KIND, [], usage=usage(counts))
        return frames + SSE_DONE

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        return self._envelope.whole(_KIND, [self._choice(reply, finish(reply))], usage=usage(counts))

    def error(self, error: GatewayError) -> bytes:
        """The frame of a failure after the stream began; no [DONE] follows."""
        return sse(openai_errors.body(error))

    def _frame(self, reply: Reply) -> bytes:
        return self._envelope.frame(_KIND, [self._choice(reply, None)])

    def _choice(self, reply: Reply, finish_reason: str | None) -> dict[str, object]:
        """A piece of the answer, the first one with the echo. The offsets count from the echo's start."""
        echo, self._echo = self._echo, ""
        offset, text = self._chars + len(echo), echo + reply.text
        self._chars += len(text)
        logprobs = openai_logprobs.as_completion(openai_logprobs.of(reply), offset)
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
