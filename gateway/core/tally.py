"""The count of one call while it runs, and the bill it ends in. Times come in as monotonic milliseconds.

What is charged:
  success       what the backend counted; the price of the call
  cut short     (the client left, the replica stops) the prompt's estimate once a backend had it, every chunk seen; the
                price if there was a chunk
  failure       nothing: a failed call is refunded in full
"""

from msgspec import Struct

from gateway.core.call import Bill, Call
from gateway.core.usage import TOKENS_MAX, Detail
from gateway.errors import CallAbandoned, Draining

NS_PER_MS = 1_000_000
CUT_SHORT = frozenset({CallAbandoned.code, Draining.code})


class Counts(Struct, frozen=True, kw_only=True):
    """What a backend says at the end of its answer: tokens, and durations in nanoseconds; 0 where it says nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    load_ns: int = 0
    prompt_ns: int = 0
    eval_ns: int = 0
    finish_reason: str = ""


class Tally:
    """Follows one call from admission to its bill."""

    __slots__ = (
        "_call",
        "_counts",
        "_end",
        "_first_token_ms",
        "backend",
        "completion_tokens",
        "prompt_tokens",
        "reported_tokens",
    )

    def __init__(self, call: Call) -> None:
        self._call = call
        self._counts: Counts | None = None
        self._end: tuple[str, int] = ("ok", 200)
        self._first_token_ms = 0
        self.backend = ""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.reported_tokens = 0
        """completion tokens that the lease knows of"""

    def sent_to(self, backend: str) -> None:
        """A backend has the prompt now, so it is being worked on."""
        self.backend = backend
        self.prompt_tokens = self._call.estimate.prompt_expected

    def saw_token(self, now_ms: int) -> None:
        """One streamed line is one token: Ollama sends each as it is made."""
        if not self.completion_tokens:
            self._first_token_ms = now_ms - self._call.began_ms
        self.completion_tokens += 1

    def completed(self, counts: Counts) -> None:
        self._counts = counts

    def ended(self, status: str, http_status: int) -> None:
        """How it went when it did not go well: an error's code, or client_gone."""
        self._end = (status, http_status)

    def bill(self, now_ms: int) -> Bill:
        status, _ = self._end
        if status == "ok" and self._counts:
            return self._successful(self._counts, now_ms)
        if status in CUT_SHORT:
            earned = self._call.estimate.price_micro if self.completion_tokens else 0
            return self._bill(self.prompt_tokens, self.completion_tokens, earned, True, Counts(), now_ms)
        return self._bill(0, 0, 0, False, Counts(), now_ms)

    def _successful(self, counts: Counts, now_ms: int) -> Bill:
        prompt = counts.prompt_tokens or self.prompt_tokens
        completion = counts.completion_tokens or self.completion_tokens
        estimated = not counts.prompt_tokens or (not counts.completion_tokens and self.completion_tokens > 0)
        return self._bill(prompt, completion, self._call.estimate.price_micro, estimated, counts, now_ms)

    def _bill(
        self, prompt: int, completion: int, credits_micro: int, estimated: bool, counts: Counts, now_ms: int
    ) -> Bill:
        return Bill(
            prompt_tokens=min(prompt, TOKENS_MAX),
            completion_tokens=min(completion, TOKENS_MAX),
            credits_micro=credits_micro,
            estimated=estimated,
            detail=self._detail(counts, now_ms),
        )

    def _detail(self, counts: Counts, now_ms: int) -> Detail:
        status, http_status = self._end
        return Detail(
            model=self._call.model,
            endpoint=self._call.endpoint,
            backend=self.backend,
            status=status,
            http_status=http_status,
            streamed=self._call.streamed,
            finish_reason=counts.finish_reason,
            response_time_ms=now_ms - self._call.began_ms,
            first_token_ms=self._first_token_ms,
            load_ms=counts.load_ns // NS_PER_MS,
            prompt_ms=counts.prompt_ns // NS_PER_MS,
            eval_ms=counts.eval_ns // NS_PER_MS,
            end_user=self._call.end_user,
        )


def if_lost(call: Call) -> Detail:
    """The row's description should the replica die before it settles the call."""
    return Detail(
        model=call.model,
        endpoint=call.endpoint,
        status="replica_lost",
        http_status=500,
        streamed=call.streamed,
        end_user=call.end_user,
    )
