"""The hub: Ollama's native API, which every other dialect is turned into and back from.

It is the only dialect of Ollama with visible mid-stream errors, an explicit end and full counts. What goes upstream is
always our own serialisation of these structs, never a client's bytes (reference: ollama-http section 6).
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from gateway.core.tally import Counts
from gateway.dialects import prompt_parts
from gateway.dialects.ollama_faults import shown
from gateway.errors import StreamBroken


class Size(Struct, frozen=True):
    """The size of a prompt: UTF-8 bytes of its text (a token of a given context counts as one), messages, images."""

    text_bytes: int
    messages: int
    images: int


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

    def text_bytes(self) -> int:
        """UTF-8 bytes of all its text, also of what it says of tools."""
        texts = [self.content, self.thinking, self.tool_name, self.tool_call_id]
        raw = []
        for call in self.tool_calls:
            texts += (call.id, call.function.name)
            raw.append(call.function.arguments)
        return _bytes(texts) + sum([len(bytes(part)) for part in raw])

    def part(self) -> bytes:
        """What it adds to a prompt. Ids of tool calls are left out, for models do not read them."""
        found = [text.encode() for text in (self.role, self.content, self.thinking, self.tool_name)]
        for call in self.tool_calls:
            found += [call.function.name.encode(), bytes(call.function.arguments)]
        return b"\0".join(found + [prompt_parts.image(image) for image in self.images])


class Options(Struct, omit_defaults=True):
    """How to sample, and `num_ctx`. The other options that reload a model for everybody are not the caller's to set."""

    num_predict: int | UnsetType = UNSET
    num_keep: int | UnsetType = UNSET
    num_ctx: int | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    min_p: float | UnsetType = UNSET
    typical_p: float | UnsetType = UNSET
    repeat_last_n: int | UnsetType = UNSET
    repeat_penalty: float | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    stop: list[str] | UnsetType = UNSET
    presence_penalty: float | UnsetType = UNSET
    frequency_penalty: float | UnsetType = UNSET


class _Request(Struct, omit_defaults=True, kw_only=True):
    """What all requests have. Model, stream and output cap are put in when it is sent. `keep_alive` is in seconds."""

    model: str | UnsetType = UNSET
    options: Options = msgspec.field(default_factory=Options)
    keep_alive: float | UnsetType = UNSET
    truncate: bool | UnsetType = UNSET

    @property
    def context_tokens(self) -> int:
        return 0 if self.options.num_ctx is UNSET else self.options.num_ctx

    def _options(self, context_tokens: int | None, **more: Any) -> Options:
        """`context_tokens` None: as the request says; 0: the node decides."""
        context = self.options.num_ctx if context_tokens is None else context_tokens or UNSET
        return replace(self.options, num_ctx=context, **more)


class _TextRequest(_Request, kw_only=True):
    """What both routes that make text have. `think_if_able`: a model that cannot think is not asked to."""

    stream: bool | UnsetType = UNSET
    format: Raw | UnsetType = UNSET
    think: bool | str | UnsetType = UNSET
    think_if_able: bool = False
    logprobs: bool = False
    top_logprobs: int = 0

    def encode(
        self, *, model: str, stream: bool, output_tokens_max: int, thinks: bool, context_tokens: int | None = None
    ) -> bytes:
        """The body for one backend, where the model is called `model` and `thinks` or not."""
        return msgspec.json.encode(
            replace(
                self,
                model=model,
                stream=stream,
                options=self._options(context_tokens, num_predict=max(output_tokens_max, 1)),
                think=UNSET if self.think_if_able and not thinks else self.think,
                think_if_able=False,  # a default is left out: this field is not Ollama's
            )
        )


class ChatRequest(_TextRequest, kw_only=True):
    path: ClassVar[str] = "/api/chat"
    messages: list[Message]
    tools: list[Raw] = []

    def size(self) -> Size:
        text_bytes, images = sum([len(bytes(tool)) for tool in self.tools]), 0
        for message in self.messages:
            text_bytes += message.text_bytes()
            images += len(message.images)
        return Size(text_bytes, len(self.messages), images)

    def parts(self) -> list[bytes]:
        before = b"\0".join(map(bytes, self.tools))
        return prompt_parts.turns(before, ((one.role == "system", one.part()) for one in self.messages))


class GenerateRequest(_TextRequest, kw_only=True):
    path: ClassVar[str] = "/api/generate"
    prompt: str
    suffix: str = ""
    system: str = ""
    images: list[str] = []
    raw: bool = False
    context: list[int] = []

    def size(self) -> Size:
        text_bytes = _bytes((self.prompt, self.suffix, self.system)) + len(self.context)
        return Size(text_bytes, 2, len(self.images))

    def parts(self) -> list[bytes]:
        before = [self.system.encode(), *map(prompt_parts.image, self.images)]
        return prompt_parts.blocks(before + ([msgspec.json.encode(self.context)] if self.context else []), self.prompt)


class EmbedRequest(_Request, kw_only=True):
    path: ClassVar[str] = "/api/embed"
    input: list[str]
    dimensions: int | UnsetType = UNSET

    def size(self) -> Size:
        return Size(_bytes(self.input), len(self.input), 0)

    def parts(self) -> list[bytes]:
        """None: nothing of one embedding helps with the next."""
        return []

    def encode(
        self, *, model: str, stream: bool, output_tokens_max: int, thinks: bool, context_tokens: int | None = None
    ) -> bytes:
        """The body for one backend. Embeddings are never streamed and have no output tokens."""
        return msgspec.json.encode(replace(self, model=model, options=self._options(context_tokens)))


class Reply(Struct, frozen=True):
    """One line of a streamed answer, or the whole of one that is not; of /api/chat, /api/generate and /api/embed."""

    model: str = ""
    created_at: str = ""
    message: Message | None = None
    response: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str = ""
    context: Raw | UnsetType = UNSET
    embeddings: list[Raw] | None = None
    """one JSON list of numbers for each input"""
    error: Any = None
    logprobs: list[Any] | None = None
    total_duration: int = 0
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

    @property
    def is_text_alone(self) -> bool:
        """Whether it is a piece of a chat's text and nothing else, as most lines are."""
        said = self.message
        return bool(said and said.content and not said.thinking and not said.tool_calls and not self.logprobs)

    def counts(self) -> Counts:
        return Counts(
            prompt_tokens=max(0, self.prompt_eval_count),
            completion_tokens=max(0, self.eval_count),
            load_ns=max(0, self.load_duration),
            prompt_ns=max(0, self.prompt_eval_duration),
            eval_ns=max(0, self.eval_duration),
            finish_reason=self.done_reason,
        )


CUT = Reply(done=True, done_reason="stop")
"""the last line of an answer that the gateway ended itself: it has no counts"""

_reply = msgspec.json.Decoder(Reply)


def read(line: bytes) -> Reply:
    """A line of an answer. Raises the error it reports, or `StreamBroken` for what is no line of an answer."""
    try:
        reply = _reply.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StreamBroken("The model server sent something that is not an answer.") from None
    if reply.error is not None:
        raise StreamBroken(f"The model server failed while it answered: {shown(reply.error)}")
    if reply.message and reply.message.tool_calls:
        for call in reply.message.tool_calls:
            _check(call.function)
    return reply


def vectors(reply: Reply, inputs: int) -> list[Raw]:
    """The embeddings, one for each input. Raises `StreamBroken`."""
    if len(reply.embeddings or ()) != inputs:
        raise StreamBroken("The model server did not answer with one vector for each input.")
    return reply.embeddings or []


def read_whole(body: bytes) -> Reply:
    """The answer to a request that is not streamed, which must be complete. Raises `StreamBroken`."""
    reply = read(body)
    if not reply.done and reply.embeddings is None:
        raise StreamBroken
    return reply


def _check(function: Function) -> None:
    """Arguments are an object: null is an empty one, and anything else is no call. Raises `StreamBroken`."""
    if bytes(function.arguments) == b"null":
        function.arguments = Raw(b"{}")
    if not bytes(function.arguments).startswith(b"{") or not _is_text(bytes(function.arguments)):
        raise StreamBroken("The model server sent a tool call whose arguments are no object.")


def _is_text(data: bytes) -> bool:
    """Whether it is UTF-8, which msgspec does not look for in what it passes on raw."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bytes(texts: Iterable[str]) -> int:
    return sum([len(text) if text.isascii() else len(text.encode()) for text in texts])
