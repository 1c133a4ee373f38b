"""The `options` of Ollama's native requests: those that are a caller's to set. Others are ignored.

What is ignored is either unknown to Ollama too, or is set when a model is loaded (num_gpu, num_batch, num_thread,
main_gpu, use_mmap and the like): another value would reload the model for everybody.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct

from gateway.dialects import ollama
from gateway.dialects.policy import stops
from gateway.errors import BadRequest

Number = int | float
_WHOLE = frozenset({"num_predict", "num_keep", "num_ctx", "top_k", "repeat_last_n", "seed"})


class Options(Struct, kw_only=True):
    """Every number may be written with a point, for Ollama takes 40.0 for 40. null: the model's own default."""

    num_predict: Number | None = None
    num_keep: Number | None = None
    num_ctx: Number | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Number | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    repeat_last_n: Number | None = None
    repeat_penalty: Number | None = None
    seed: Number | None = None
    stop: str | list[str] | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None

    def hub(self) -> ollama.Options:
        """Raises `BadRequest` for a fraction where Ollama counts, and for stop sequences out of bounds."""
        given = {name: _value(name, value) for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return ollama.Options(**given)

    def output_tokens_max(self) -> int | None:
        """How many tokens the answer may have. Ollama's negative values, for no bound, leave it to the gateway; so does
        0, which some of its runners take for no bound too."""
        wanted = 0 if self.num_predict is None else _whole("num_predict", self.num_predict)
        return wanted if wanted > 0 else None


def _value(name: str, value: Any) -> Any:
    if name in _WHOLE:
        return _whole(name, value)
    return stops(value, "options.stop") or UNSET if name == "stop" else value


def _whole(name: str, value: Number) -> int:
    if value != value // 1:
        raise BadRequest(f"The option {name} must be a whole number.", param=f"options.{name}")
    return int(value)
