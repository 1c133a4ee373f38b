"""The count of one call while it runs, and the bill it ends in. Times come in as monotonic milliseconds.

What is charged:
  success       what the backend counted; the price of the call
  client gone   the prompt's estimate once a backend had it, every chunk seen; the price if there was a chunk
  cut by us     the same, if there was a chunk: the replica stops, the key is revoked
  failure       nothing: a failed call is refunded in full

A backend's own figures are believed within bounds, so that a broken one can neither empty an account nor write a row
that no table takes. The client is told the figures of the bill.
"""

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.call import Bill, Call, Course
from gateway.core.limits import tokens_expected
from gateway.core.usage import ATTEMPTS_MAX, DURATION_MS_MAX, OK, TOKENS_MAX, Detail, Tried
from gateway.errors import CallAbandoned, Draining, KeyRevoked

NS_PER_MS = 1_000_000
SYSTEM_TOKENS_MAX = 4_096
"""what a model's own system text and templates may add to a prompt beyond what was reserved for it"""
FINISH_REASON_CHARS_MAX = 32
CUT_BY_US = (Draining.code, KeyRevoked.code)
"""ends that are no fault of the answer's: what was delivered is paid"""


class Counts(Struct, frozen=True, kw_only=True):
    """What is known at the end of an answer: tokens, and durations in nanoseconds; 0 where the backend says nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    """whether the tokens are not, or not wholly, the backend's own figures"""
    load_ns: int = 0
    prompt_ns: int = 0
    eval_ns: int = 0
    finish_reason: str = ""

    def after(self, earlier: "Counts") -> "Counts":
        """The counts of both."""
        return replace(
            self,
            prompt_tokens=earlier.prompt_tokens + self.prompt_tokens,
            completion_tokens=earlier.completion_tokens + self.completion_tokens,
            load_ns=earlier.load_ns + self.load_ns,
            prompt_ns=earlier.prompt_ns + self.prompt_ns,
            eval_ns=earlier.eval_ns + self.eval_ns,
        )


class Tally:
    """Follows one call from admission to its bill."""

    __slots__ = (
        "_attempts",
        "_call",
        "_counts",
        "_course",
        "_done",
        "_end",
        "_first_token_ms",
        "_output_tokens_max",
        "_said",
        "backend",
        "completion_tokens",
        "prompt_tokens",
        "reported_tokens",
        "said",
        "waited_ms",
    )

    def __init__(self, call: Call) -> None:
        self._call = call
        self._attempts: list[Tried] = []
        self._counts: Counts | None = None
        self._course: Course | None = None
        self._done = 0
        """answers that are complete: a list of prompts has several"""
        self._end: tuple[str, int] = (OK, 200)
        self._first_token_ms = 0
        self._output_tokens_max = call.estimate.output_max
        self._said = Counts()
        """the backends' own figures"""
        self.said: Counts | None = None
        """the backend's figures of the last answer, once it has given them"""
        self.backend = ""
        self.waited_ms = 0
        """for slots of backends, of all attempts together"""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.reported_tokens = 0
        """completion tokens that the lease knows of"""

    def admitted(self, output_tokens_max: int) -> None:
        """How many tokens the answer may have."""
        self._output_tokens_max = output_tokens_max

    def sent(self, now_ms: int) -> None:
        """A backend has the prompt now, or the next one of several, so it is being worked on."""
        if not self._done:
            self._course = Course(now_ms - self._call.began_ms, self.waited_ms)
        parts = 1 + len(self._call.further)
        self.prompt_tokens = self._call.estimate.prompt_expected * (self._done + 1) // parts

    def failed(self, attempt: Tried) -> None:
        """A try has failed, and another one follows."""
        if not self._done:
            self._course = None
        if len(self._attempts) < ATTEMPTS_MAX:
            self._attempts.append(attempt)

    @property
    def answers(self) -> int:
        """How many are complete."""
        return self._done

    def saw_token(self, now_ms: int) -> None:
        """One streamed line is one token: Ollama sends each as it is made."""
        if not self.completion_tokens:
            self._first_token_ms = now_ms - self._call.began_ms
        self.completion_tokens += 1

    def saw_whole(self, text_bytes: int) -> None:
        """An answer in one piece whose tokens the backend has not counted."""
        self.completion_tokens += tokens_expected(text_bytes)

    def completed(self, said: Counts) -> Counts:
        """The backend's last word, made good where it says too little and bounded where it says too much.

        Of several answers it is the sum so far. It says too little where it began anew after the thinking, as with
        `format`: then it counts the rest alone.
        """
        self._done += 1
        self.said = said
        said = said.after(self._said)
        self._said = said
        prompt_max = self._call.estimate.prompt_max + SYSTEM_TOKENS_MAX * self._done
        prompt = min(said.prompt_tokens or self.prompt_tokens, prompt_max)
        completion = max(min(said.completion_tokens, self._output_tokens_max), self.completion_tokens)
        self._counts = replace(
            said,
            prompt_tokens=prompt,
            completion_tokens=completion,
            estimated=(prompt, completion) != (said.prompt_tokens, said.completion_tokens),
        )
        return self._counts

    def ended(self, status: str, http_status: int) -> None:
        """How it went when it did not go well: an error's code, or client_gone."""
        self._end = (status, http_status)

    def bill(self, now_ms: int) -> Bill:
        status, _ = self._end
        if status == OK and self._counts:
            return self._bill(self._counts, now_ms, paid=True, whole=not self._counts.estimated)
        if status == CallAbandoned.code or (status in CUT_BY_US and self.completion_tokens):
            seen = Counts(prompt_tokens=self.prompt_tokens, completion_tokens=self.completion_tokens, estimated=True)
            return self._bill(seen, now_ms, paid=self.completion_tokens > 0)
        return self._bill(Counts(), now_ms, paid=False)

    def _bill(self, counts: Counts, now_ms: int, *, paid: bool, whole: bool = False) -> Bill:
        return Bill(
            prompt_tokens=min(counts.prompt_tokens, TOKENS_MAX),
            completion_tokens=min(counts.completion_tokens, TOKENS_MAX),
            paid=paid,
            estimated=counts.estimated,
            whole=whole,
            detail=self._detail(counts, now_ms),
            course=self._course,
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
            finish_reason=counts.finish_reason.replace("\0", "")[:FINISH_REASON_CHARS_MAX],
            response_time_ms=now_ms - self._call.began_ms,
            first_token_ms=self._first_token_ms,
            queue_ms=min(self.waited_ms, DURATION_MS_MAX),
            load_ms=_ms(counts.load_ns),
            prompt_ms=_ms(counts.prompt_ns),
            eval_ms=_ms(counts.eval_ns),
            end_user=self._call.end_user,
            dialect=self._call.dialect,
            address_hash=self._call.address_hash,
            attempts=tuple(self._attempts),
        )


def _ms(duration_ns: int) -> int:
    return min(duration_ns // NS_PER_MS, DURATION_MS_MAX)


def if_lost(call: Call) -> Detail:
    """The row's description should the replica die before it settles the call."""
    return Detail(
        model=call.model,
        endpoint=call.endpoint,
        status="replica_lost",
        http_status=500,
        streamed=call.streamed,
        end_user=call.end_user,
        dialect=call.dialect,
        address_hash=call.address_hash,
    )
