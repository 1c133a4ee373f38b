"""How the fake Ollama misbehaves when told to."""

from typing import Any

from msgspec import Struct

INFERENCE = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings")
QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"
LOAD_FAILED = (
    "llama-server process has terminated: exit status 1: error: failed to allocate CUDA0 buffer of size 18253611008"
)
KILLED = "llama-server process has terminated: signal: segmentation fault (core dumped)"
PROBE_FAILED = "the fake was told to fail"


class Behaviour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the fake does from now on. Times in milliseconds. The default is a good, fast node."""

    first_byte_ms: float = 0
    """silence before anything is sent, even the status"""
    tokens: int | None = None
    """how many tokens an answer has; None: the usual small text"""
    text: str | None = None
    """what the answer says; comes before `tokens`"""
    tokens_per_s: float | None = None
    status: int | None = None
    """this status with `error` as its text, instead of an answer"""
    error: str = PROBE_FAILED
    hang: bool = False
    """never answers; the connection stays open until the client leaves"""
    hang_after_tokens: int | None = None
    drop_after_chunks: int | None = None
    """resets the connection after so many chunks; 0: without a word. stream:false: in the middle of the body"""
    garbage: bool = False
    """a line after the first token that is not JSON, nor even UTF-8"""
    trickle: bool = False
    """the body one byte at a time, each in a chunk and a packet of its own"""
    trickle_ms: float = 1.0
    truncate: bool = False
    """the answer ends cleanly without done:true"""
    error_after_tokens: int | None = None
    """an error line after so many tokens; with stream:false a plain 500"""
    queue_full: bool = False
    load_failure: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    """sent beside the usual ones: Location, Set-Cookie, Content-Encoding, a hundred others"""
    content_type: str | None = None
    """instead of the right one"""
    body: str | None = None
    """sent verbatim instead of an answer, with `status` or 200; each character is a byte (latin-1)"""
    endless_line_after_tokens: int | None = None
    """after so many tokens a line that goes on, without a newline, until the client leaves"""
    counts: dict[str, Any] = {}
    """lies: fields of the last line that replace the true ones; null leaves them out"""
    kills: str | None = None
    """a request whose prompt contains this kills the model's runner, and has its connection reset"""
    kills_with_error: bool = False
    """it gets a 500 instead"""
    wedged: tuple[str, ...] = ()
    """models whose generations never answer, while all else does; whatever `paths` and `remaining` say"""
    flap_ms: tuple[float, float] | None = None
    """up for so long, then down for so long, and again: connections made or used while down are reset at once"""
    tool_calls_apart: bool = False
    """tool calls in a line of their own before the last, as models with an Ollama parser send them"""
    remaining: int | None = None
    """for how many requests this applies, then the default again; None: until told otherwise"""
    paths: tuple[str, ...] = INFERENCE
    """requests to which it applies"""

    @property
    def refusal(self) -> tuple[int, str] | None:
        """Status and text that replace every answer."""
        if self.queue_full:
            return 503, QUEUE_FULL
        if self.load_failure:
            return 500, LOAD_FAILED
        return (self.status, self.error) if self.status is not None else None
