"""Which beginnings of prompts a node may have in its cache: digests to remember it by, and whether that is any use.

A prompt comes in parts (messages, or blocks of text). Digest number i covers parts 0 to i, so a conversation's next
turn has the digests of the last one among its own. They depend on who asks and for which model: nobody can find out
what another key has asked. A digest is a hint: a wrong one costs time and nothing else, so 8 bytes are enough.
"""

from collections.abc import Sequence
from hashlib import blake2b

from gateway.core.routing import UNKNOWN, Backend, Rates, Wanted

DIGEST_BYTES = 8
LOOKUPS_MAX = 16
"""digests looked up for one prompt: a turn adds a few messages, so the last turn's are among the longest"""
PARTS_MAX = LOOKUPS_MAX
"""longest beginnings of a prompt that get a digest; shorter ones would not be looked up"""
RECORDED = 2
"""the whole, and all but its last part, which is what is left of a prompt whose end is written anew"""
HELP_CALLS_MIN = 20
"""calls with and without a known beginning, before anything is concluded"""
HELP_SHARE_MAX = 0.8
"""of the time that a token of an unknown prompt takes; one of a known prompt that takes more was hardly cached"""

HOME_MS_MIN, HOME_MS_MAX = 50, 1_000
"""a wait for the node that has a prompt in mind: less is not worth a place in the line, more is never risked"""


def prefixes(owner: str, model: str, parts: Sequence[bytes]) -> list[str]:
    """The digests of a prompt's beginnings, in hex: the shortest of the PARTS_MAX longest first, the whole last."""
    chain = blake2b(digest_size=DIGEST_BYTES)
    for part in (owner.encode(), model.encode()):
        chain.update(b"%d:%b" % (len(part), part))
    found = []
    first = len(parts) - PARTS_MAX
    for number, part in enumerate(parts):
        chain.update(b"%d:" % len(part))
        chain.update(part)
        if number >= first:
            found.append(chain.hexdigest())
    return found


def looked_up(digests: Sequence[str]) -> list[str]:
    """What to look for, the longest first."""
    return list(reversed(digests[-LOOKUPS_MAX:]))


def recorded(digests: Sequence[str]) -> list[str]:
    """What a node that gets the prompt is remembered by."""
    return list(reversed(digests[-RECORDED:]))


def saving_ms(backends: Sequence[Backend], wanted: Wanted) -> float:
    """How much sooner a call begins where its prompt is in mind. As long as nobody knows: by all its prompt takes."""
    known = [rates for backend in backends if (rates := backend.rates.get(wanted.model)) and rates.calls]
    saved = [one.prompt_token_ms - one.cached_token_ms * bool(one.cached_calls) for one in known or [UNKNOWN]]
    return max(0.0, wanted.prompt_tokens * sum(saved) / len(saved))


def home_ms(saved_ms: float) -> int:
    """How long a call had rather wait for the node that has its beginning in mind, where it begins `saved_ms` sooner
    than elsewhere: no longer, so that it never loses more than it would have lost there."""
    return 0 if saved_ms < HOME_MS_MIN else int(min(saved_ms, HOME_MS_MAX))


def helps(rates: Rates) -> bool:
    """Whether a backend is any faster with prompts whose beginning it has served. As long as nobody knows: yes."""
    if min(rates.cached_calls, rates.calls - rates.cached_calls) < HELP_CALLS_MIN or not rates.prompt_token_ms:
        return True
    return rates.cached_token_ms <= HELP_SHARE_MAX * rates.prompt_token_ms
