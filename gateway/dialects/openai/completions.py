"""POST /v1/completions: a prompt in, its continuation out, in OpenAI's older form."""

from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.core.tally import Counts
from gateway.dialects import asked as spoke
from gateway.dialects.asked import Asked
from gateway.dialects.frames import SSE_DONE, sse
from gateway.dialects.ollama import GenerateRequest, Reply
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai import logprobs as openai_logprobs
from gateway.dialects.openai.chat_answer import Envelope, finish, usage
from gateway.dialects.openai.sampled import Sampled
from gateway.dialects.policy import PROMPTS_MAX
from gateway.errors import BadRequest, GatewayError, LoadBlocked, Unsupported

_KIND = "text_completion"


class CompletionRequest(Sampled, kw_only=True):
    """What is read of the request. `raw` is Ollama's own: the prompt goes to the model without its template."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | list[str | int | list[int]] | None = None
    suffix: str | None = None
    raw: bool | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    best_of: int | None = None


_request = msgspec.json.Decoder(CompletionRequest)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError`, `BadRequest` or `LoadBlocked`."""
    asked = _request.decode(body)
    _refuse(asked)
    prompts = _prompts(asked)
    first, *further = [_upstream(asked, prompt) for prompt in prompts]
    return Asked(
        model=asked.model,
        upstream=first,
        further=tuple(further),
        streamed=bool(asked.stream),
        output_tokens_max=asked.output_tokens_max(asked.max_tokens),
        end_user=asked.user or "",
        renderer=partial(Renderer, asked.model, prompts if asked.echo else [], bool(asked.stream), asked.include_usage),
    )


def _upstream(asked: CompletionRequest, prompt: str) -> GenerateRequest:
    """The request of the hub. Nothing is thought, for a completion has no place for it."""
    return GenerateRequest(
        prompt=prompt,
        suffix=asked.suffix or "",
        raw=bool(asked.raw),
        options=asked.hub_options(),
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


def _prompts(asked: CompletionRequest) -> list[str]:
    """The prompts of the request. Raises `LoadBlocked` for an empty one: that would only load the model."""
    given = asked.prompt if isinstance(asked.prompt, list) else [asked.prompt or ""]
    prompts = [prompt for prompt in given if isinstance(prompt, str)]
    if len(prompts) != len(given):
        raise Unsupported("This gateway takes prompts as text, not as token ids.", param="prompt")
    if len(prompts) > PROMPTS_MAX:
        raise BadRequest(f"A request may have {PROMPTS_MAX} prompts; this one has {len(prompts)}.", param="prompt")
    if not prompts or not all(prompts):
        raise LoadBlocked(param="prompt")
    return prompts


class Renderer(spoke.Renderer):
    """Turns the hub's answers, one for each prompt, into OpenAI's completion. What the model thought is left out.

    `echo`, where it is wanted, holds the prompts; each stands before its answer.
    """

    def __init__(
        self, model: str, echo: list[str], streamed: bool, include_usage: bool, call_id: str, created_s: int
    ) -> None:
        self._envelope = Envelope(f"cmpl-{call_id.replace('-', '')}", model, created_s)
        self._streamed = streamed
        self._include_usage = include_usage
        self._echo = list(reversed(echo))
        self._earlier: list[dict[str, object]] = []
        """choices, of which the stream has sent all but the end"""
        self._chars = 0

    def feed(self, reply: Reply) -> bytes:
        return self._frame(reply) if reply.text or reply.logprobs else b""

    def part(self, reply: Reply) -> bytes:
        frames = self._end(reply) if self._streamed else b""
        self._earlier.append({} if self._streamed else self._choice(reply, finish(reply)))
        self._chars = 0
        return frames

    def last(self, reply: Reply, counts: Counts) -> bytes:
        frames = self._end(reply)
        if self._include_usage:
            frames += self._envelope.frame(_KIND, [], usage=usage(counts))
        return frames + SSE_DONE

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        choices = [*self._earlier, self._choice(reply, finish(reply))]
        return self._envelope.whole(_KIND, choices, usage=usage(counts))

    def error(self, error: GatewayError) -> bytes:
        """The frame of a failure after the stream began; no [DONE] follows."""
        return sse(openai_errors.body(error))

    def _end(self, reply: Reply) -> bytes:
        """What the final line of one answer adds, and why it ended, in a frame of its own."""
        frames = self._frame(reply) if reply.text or reply.logprobs or (self._echo and not self._chars) else b""
        end = {"index": len(self._earlier), "text": "", "logprobs": None, "finish_reason": finish(reply)}
        return frames + self._envelope.frame(_KIND, [end])

    def _frame(self, reply: Reply) -> bytes:
        return self._envelope.frame(_KIND, [self._choice(reply, None)])

    def _choice(self, reply: Reply, finish_reason: str | None) -> dict[str, object]:
        """A piece of an answer, its first one with the echo. The offsets count from the echo's start."""
        echo = self._echo.pop() if self._echo and not self._chars else ""
        offset, text = self._chars + len(echo), echo + reply.text
        self._chars += len(text)
        logprobs = openai_logprobs.as_completion(openai_logprobs.of(reply), offset)
        return {"index": len(self._earlier), "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
