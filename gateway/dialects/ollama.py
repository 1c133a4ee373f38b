"""The hub: Ollama's native API, which every other dialect is turned into and back from.

It is the only dialect of Ollama with visible mid-stream errors, an explicit end and full counts. What goes upstream is
always our own serialisation of these structs, never a client's bytes (reference: ollama-http section 6).
"""

from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway.core.tally import Counts
from gateway.errors import (
    BackendBusy,
    BackendFault,
    BadRequest,
    ContextExceeded,
    GatewayError,
    ModelNotFound,
    StreamBroken,
)

UPSTREAM_TEXT_CHARS_MAX = 300


class Function(Struct, omit_defaults=True):
    """A function as called. `arguments` is a JSON object, kept as the model wrote it."""

    name: str
    arguments: Raw = Raw(b"{}")
    index: int | UnsetType = UNSET


class ToolCall(Struct, omit_defaults=True):
    function: Function
    id: str = ""


class Message(Struct, omit_defaults=True):
    """One turn. `images` are base64 without a data: prefix."""

    role: str = ""
    content: str = ""
    thinking: str = ""
    images: list[str] = []
    tool_calls: list[ToolCall] = []
    tool_name: str = ""
    tool_call_id: str = ""


class Options(Struct, omit_defaults=True):
    """Sampling only: options that would reload a model for everybody are not the caller's to set."""

    num_predict: int | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    stop: list[str] | UnsetType = UNSET
    presence_penalty: float | UnsetType = UNSET
    frequency_penalty: float | UnsetType = UNSET


class _Request(Struct, omit_defaults=True, kw_only=True):
    """What both inference routes take. Model, stream and output cap are put in when it is sent."""

    model: str | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    options: Options = msgspec.field(default_factory=Options)
    format: Raw | UnsetType = UNSET
    think: bool | str | UnsetType = UNSET
    logprobs: bool = False
    top_logprobs: int = 0

    def encode(self, *, model: str, stream: bool, output_tokens_max: int) -> bytes:
        options = msgspec.structs.replace(self.options, num_predict=output_tokens_max)
        return msgspec.json.encode(msgspec.structs.replace(self, model=model, stream=stream, options=options))


class ChatRequest(_Request, kw_only=True):
    path: ClassVar[str] = "/api/chat"
    messages: list[Message]
    tools: list[Raw] = []


class GenerateRequest(_Request, kw_only=True):
    path: ClassVar[str] = "/api/generate"
    prompt: str
    system: str = ""


class Reply(Struct, frozen=True):
    """One line of a streamed answer, or the whole of one that is not; of /api/chat and of /api/generate."""

    model: str = ""
    message: Message | None = None
    response: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str = ""
    error: Any = None
    logprobs: list[Any] | None = None
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0

    @property
    def text(self) -> str:
        return self.message.content if self.message else self.response

    @property
    def thought(self) -> str:
        return self.message.thinking if self.message else self.thinking

    @property
    def tool_calls(self) -> list[ToolCall]:
        return self.message.tool_calls if self.message else []

    @property
    def carries_tokens(self) -> bool:
        return bool(self.text or self.thought or self.tool_calls)

    def counts(self) -> Counts:
        return Counts(
            prompt_tokens=max(0, self.prompt_eval_count),
            completion_tokens=max(0, self.eval_count),
            load_ns=max(0, self.load_duration),
            prompt_ns=max(0, self.prompt_eval_duration),
            eval_ns=max(0, self.eval_duration),
            finish_reason=self.done_reason,
        )


_reply = msgspec.json.Decoder(Reply)


def read(line: bytes) -> Reply:
    """A line of an answer. Raises the error it reports, or `StreamBroken` for what is no line of an answer."""
    try:
        reply = _reply.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StreamBroken("The model server sent something that is not an answer.") from None
    if reply.error is not None:
        raise StreamBroken(f"The model server failed while it answered: {_shown(reply.error)}")
    return reply


def read_whole(body: bytes) -> Reply:
    """The answer to a request with stream false, which must be complete. Raises `StreamBroken`."""
    reply = read(body)
    if not reply.done:
        raise StreamBroken
    return reply


def fault(status: int, body: bytes) -> GatewayError:
    """What a backend's refusal means (ollama-http section 3); `elsewhere` is set where another may do better.

    A client's mistake keeps Ollama's wording, which names the field; a node's fault is worded by the gateway.
    """
    text = _error_text(body)
    if status == 404:
        return ModelNotFound()
    if status == 503:
        return BackendBusy()
    if ("exceed" in text and "context" in text) or "longer than the context" in text:
        return ContextExceeded(f"The model refused the prompt: {text}")
    if status == 400 or text.startswith(("option ", "invalid format")):
        return BadRequest(f"The model refused this request: {text}")
    return BackendFault(f"The model server behind this gateway failed: {text}", elsewhere=_is_load_failure(text))


def _is_load_failure(text: str) -> bool:
    return "llama-server process has terminated" in text or "timed out waiting" in text or "out-of-memory" in text


def _error_text(body: bytes) -> str:
    try:
        return _shown(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return "no reason given"


def _shown(error: Any) -> str:
    """An upstream error as one short line; llama-server's are JSON within a string."""
    if isinstance(error, str):
        try:
            inner = msgspec.json.decode(error)
            error = inner["error"]["message"] if isinstance(inner["error"], dict) else inner["error"]
        except (msgspec.DecodeError, RecursionError, KeyError, TypeError):
            pass
    text = " ".join(str(error).split())
    return text[:UPSTREAM_TEXT_CHARS_MAX]
