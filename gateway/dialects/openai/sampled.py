"""What OpenAI's requests for text have in common: how to sample, how to stream, who asks."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.dialects import ollama
from gateway.dialects.extension import Extension

Count = Annotated[int, Meta(ge=1)]


class StreamOptions(Struct):
    include_usage: bool | None = None


class Sampled(Extension, kw_only=True):
    """The fields that chat and completions share."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    user: str | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def hub_options(self) -> ollama.Options:
        return self.sampling(
            stop=self.stop,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )
