"""What requests may ask of the backends beyond an answer: bounds that the operator sets, the same for every dialect."""

import re

from msgspec import UNSET, Struct
from msgspec.structs import replace

from gateway.core.call import PromptSize, Upstream
from gateway.core.fleet import Alias
from gateway.dialects.ollama import ChatRequest, EmbedRequest, GenerateRequest, Options
from gateway.errors import BadRequest, ContextNotAllowed

IMAGES_MAX = 8
MESSAGES_MAX = 4_096
"""long sessions of agents have a thousand and more"""
INPUTS_MAX = 2_048
PROMPTS_MAX = 32
"""of one completion, asked one after the other"""
PARTS_MAX = 1_024
"""of one message"""
ROLE_CHARS_MAX = 32
STOPS_MAX = 16
STOP_CHARS_MAX = 256
FORMAT_BYTES_MAX = 64 << 10
"""of a JSON schema, which the model server has to compile"""
DURATION_CHARS_MAX = 64
KEEP_ALIVE_S_MIN = 60.0
"""less would unload the model under the other callers' feet"""

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)", re.ASCII)


class Policy(Struct, frozen=True, kw_only=True):
    """The operator's bounds. `context_tokens_max` 0: no request chooses `num_ctx`; seconds 0: none `keep_alive`."""

    context_tokens_max: int
    keep_alive_s_max: float
    output_tokens_max: int

    def apply(self, request: Upstream, size: PromptSize, alias: Alias | None = None) -> Upstream:
        """The request, which is of that size, within the bounds. Raises `ContextNotAllowed` or `BadRequest`.

        What an operator's alias says wins over the request, and over the bound of `num_ctx`.
        `keep_alive` is brought within them rather than refused: well-known clients ask for "for ever" by default.
        """
        assert isinstance(request, ChatRequest | GenerateRequest | EmbedRequest)
        if alias:
            request = replace(request, options=_overlaid(request.options, alias))
        context, keep_s = request.options.num_ctx, request.keep_alive
        pinned = alias is not None and alias.context_tokens is not None
        if size.images > IMAGES_MAX:
            raise BadRequest(f"A request may hold {IMAGES_MAX} images; this one has {size.images}.")
        if size.messages > MESSAGES_MAX:
            raise BadRequest(f"A request may hold {MESSAGES_MAX} messages; this one has {size.messages}.")
        if not isinstance(request, EmbedRequest) and request.format is not UNSET:
            _check_format(bytes(request.format))
        if not pinned and context is not UNSET and not 0 < context <= self.context_tokens_max:
            raise ContextNotAllowed(self._about_context(), param="options")
        if keep_s is UNSET:
            return request
        if not self.keep_alive_s_max:
            return replace(request, keep_alive=UNSET)
        wanted_s = self.keep_alive_s_max if keep_s < 0 else max(keep_s, KEEP_ALIVE_S_MIN)
        return replace(request, keep_alive=min(wanted_s, self.keep_alive_s_max))

    def _about_context(self) -> str:
        if not self.context_tokens_max:
            return "Requests may not choose `num_ctx` here: another one reloads the model for everybody."
        return f"`num_ctx` may be 1 to {self.context_tokens_max} here (setting CONTEXT_TOKENS_MAX)."


def _overlaid(options: Options, alias: Alias) -> Options:
    said = {name: value for name, value in alias.options.items() if name in Options.__struct_fields__}
    if alias.context_tokens is not None:
        said["num_ctx"] = alias.context_tokens
    return replace(options, **said)


def _check_format(schema: bytes) -> None:
    if len(schema) > FORMAT_BYTES_MAX:
        raise BadRequest(f"The JSON schema of an answer may have {FORMAT_BYTES_MAX} bytes; this one has {len(schema)}.")


def stops(given: str | list[str], param: str = "stop") -> list[str]:
    """Stop sequences, without empty ones, which would end every answer at once. Raises `BadRequest`."""
    sequences = [one for one in ([given] if isinstance(given, str) else given) if one]
    if len(sequences) > STOPS_MAX:
        raise BadRequest(f"A request may have {STOPS_MAX} stop sequences.", param=param)
    if any(len(one) > STOP_CHARS_MAX for one in sequences):
        raise BadRequest(f"A stop sequence may have {STOP_CHARS_MAX} characters.", param=param)
    return sequences


def seconds(value: float | str) -> float:
    """A `keep_alive` in seconds; negative: for ever. Text is "0" or as Go writes durations, such as "1h30m".

    Raises `BadRequest`.
    """
    if isinstance(value, str):
        text = value[: DURATION_CHARS_MAX + 1].strip()
        form = _DURATION.fullmatch(text + ("s" if text in ("0", "-1") else ""))
        if form is None or len(value) > DURATION_CHARS_MAX:
            raise BadRequest('`keep_alive` must be a number of seconds or a duration such as "5m".', param="keep_alive")
        value = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(form[2]))
        value = -value if form[1] == "-" else value
    return float(value)
