"""Answers of nodes that are broken, endless, untrue or not theirs to give (reliability F36-F42, F47).

Every broken answer is followed by a good one: a third on end would have the model ejected.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

from gateway.core.placing import breaker_name
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.dialects.frames import LINE_BYTES_MAX
from gateway.state import keyspace
from tests.acceptance.conftest import Start
from tests.acceptance.scene import MODEL, Outcome, Scene, scene
from tests.nodes import nodes
from tests.world import chat

NATIVE = "/api/chat"
LINES, CUTS = 20, 60
IDLE_S = 1.0
TOKENS_MAX = 100
SLACK_BYTES = 12 << 20
"""of a replica's memory, beside the line it keeps"""
BUFFERED_BYTES = 8 << 20
"""that a node can have sent before it hears that nobody reads"""
CONTEXT = 131_072
LIES: list[dict[str, Any]] = [
    {"eval_count": None},
    {"prompt_eval_count": None},
    {"eval_count": None, "prompt_eval_count": None},
    {"eval_count": 0},
    {"prompt_eval_count": 0},
    {"eval_count": -1},
    {"prompt_eval_count": -(2**40)},
    {"eval_count": 1},
    {"eval_count": 2**31},
    {"prompt_eval_count": 2**62, "eval_count": 2**62},
    {"eval_duration": -1, "prompt_eval_duration": 2**62, "load_duration": 2**62},
    {"eval_count": 3, "done_reason": "\0" * 40},
]


async def broken(it: Scene, behaviour: Behaviour, path: str = "", **fields: Any) -> Outcome:
    """A call that meets this, and one that meets nothing after it."""
    node = it.fleet[0]
    node.behaviour = behaviour
    outcome = await (it.call(path, chat(stream=True)) if path else it.call(**fields))
    node.behaviour = Behaviour()
    assert (await it.call()).ended_well
    return outcome


def native(outcome: Outcome) -> list[dict[str, Any]]:
    """Lines of Ollama's own dialect, each of which has to be one."""
    if outcome.status != 200:
        return [outcome.reply.json()]
    assert outcome.reply.text.endswith("\n")
    return [json.loads(line) for line in outcome.reply.text.splitlines()]


def lines() -> bytes:
    """A good answer in LINES lines."""
    said = [{"model": "m", "message": {"role": "assistant", "content": f"ä{n}"}, "done": False} for n in range(LINES)]
    said[-1] |= {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": LINES - 1}
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in said)


async def test_f36_wherever_a_stream_is_cut_only_whole_frames_and_an_error_are_passed_on(
    start: Start, seed: str
) -> None:
    body, chance = lines(), random.Random(seed)
    line_ends = [at + 1 for at, byte in enumerate(body[:-1]) if byte == ord("\n")]
    cuts = [1, 2, len(body) - 2, *chance.sample(line_ends, 5), *chance.sample(range(3, len(body) - 2), CUTS - 8)]
    async with nodes(1) as fleet, scene(start, fleet) as it:
        for number, at in enumerate(cuts):
            cut = Behaviour(body=body[:at].decode("latin-1"), drop_after_chunks=1 if number % 2 else None)
            outcome = await broken(it, cut, NATIVE if number % 3 else "", stream=True)
            frames = native(outcome) if number % 3 else outcome.frames
            assert outcome.status in (200, 502) and "error" in frames[-1], (at, frames)
            assert not any("error" in frame for frame in frames[:-1])
        rows = await it.world.rows(2 * len(cuts))
        print(
            f"\na stream of {len(body)} bytes cut at {len(cuts)} places: no part of a line passed on, nothing charged"
        )
        assert {row["status"] for row in rows} == {"ok", "stream_broken"}
        assert {row["total_tokens"] for row in rows if row["status"] != "ok"} == {0}
        metrics = (await it.world.http.get(f"{it.world.url}/metrics")).text
        assert 'status="stream_broken"' in metrics, "F40: an error within a 200 is no good answer to metrics either"


async def test_f37_f38_silence_and_a_trickle_within_a_line_are_cut_alike(start: Start) -> None:
    async with nodes(1) as fleet, scene(start, fleet, OLLAMA_IDLE_TIMEOUT=str(IDLE_S)) as it:
        node = fleet[0]
        for name, behaviour in (
            ("hangs after 10 tokens", Behaviour(tokens=20, hang_after_tokens=10)),
            ("a byte every 100 ms", Behaviour(tokens=20, trickle=True, trickle_ms=100)),
        ):
            node.behaviour = behaviour
            outcome = await it.call(stream=True)
            print(f"\n{name}: {outcome.code} after {outcome.took_s:.2f} s, patience {IDLE_S} s")
            assert outcome.code == "backend_timeout"
            assert outcome.took_s >= IDLE_S
            await node.ledger.until_idle()
            await it.until_seen(node, lambda seen: not seen["busy"])
        found = await it.world.redis.hget(keyspace.fleet()[15], breaker_name(it.name(node), MODEL))
        assert json.loads(found)["failures"] == 2
        await it.world.rows(2)


async def test_f39_f41_bodies_that_are_no_answers_and_one_that_never_ends(start: Start, seed: str) -> None:
    chance = random.Random(seed)
    async with nodes(1) as fleet, scene(start, fleet) as it:
        good = lines().decode("latin-1")
        bodies = [
            "",
            "<html><body>502</body></html>",
            '"text"\n',
            "[]\n",
            "{}\n",
            '{"done":true',
            "\xff\xfe\n",
            "null\n",
        ]
        bodies += [good[: chance.randrange(len(good))] + "".join(map(chr, chance.randbytes(9))) for _ in range(12)]
        for number, body in enumerate(bodies):
            outcome = await broken(it, Behaviour(body=body, content_type="text/html"), stream=bool(number % 2))
            assert outcome.code in ("stream_broken", "backend_failed"), (body, outcome.reply.text)
            assert outcome.status == (200 if len(outcome.frames) > 1 else 502), (body, outcome.reply.text)

        before = peak_bytes(it)
        began_s = time.monotonic()
        endless = await broken(it, Behaviour(tokens=5, endless_line_after_tokens=2), stream=True)
        took_s, grown = time.monotonic() - began_s, peak_bytes(it) - before
        sent = max(one.chunks_sent for one in fleet[0].ledger.inference) * 65_536
        print(f"\nan endless line: {endless.code} after {took_s:.2f} s and {sent >> 20} MiB, memory +{grown >> 20} MiB")
        assert endless.code == "stream_broken"
        assert len(endless.frames) == 3, "two tokens and the error"
        assert sent <= LINE_BYTES_MAX + BUFFERED_BYTES
        assert grown <= LINE_BYTES_MAX + SLACK_BYTES
        assert not [line for line in it.lines() if line.get("level") == "error"]
        await it.world.rows(2 * len(bodies) + 2)


async def test_f42_a_row_is_true_whatever_a_node_says_of_its_counts(start: Start) -> None:
    async with nodes(1) as fleet, scene(start, fleet) as it:
        for lie in LIES:
            outcome = await broken(
                it, Behaviour(tokens=5, counts=lie), stream=True, max_tokens=TOKENS_MAX,
                stream_options={"include_usage": True},
            )  # fmt: skip
            assert outcome.ended_well, (lie, outcome.reply.text)
        rows = (await it.world.rows(2 * len(LIES)))[::2]
        for lie, row in zip(LIES, rows, strict=True):
            print(f"{lie}: {row['prompt_tokens']} + {row['completion_tokens']}, estimated {row['estimated']}")
            assert row["status"] == "ok"
            assert 5 <= row["completion_tokens"] <= TOKENS_MAX, lie
            assert 1 <= row["prompt_tokens"] <= CONTEXT, lie
            counts = {name for name in lie if name.endswith("count")} - {"done_reason"}
            assert row["estimated"] == bool(counts), lie
        assert (await it.world.usage(it.key))["monthly_tokens"]["held"] == 0


async def test_f47_redirects_are_not_followed_and_no_header_of_a_node_is_passed_on(start: Start) -> None:
    target = FakeOllama()
    await target.start()
    async with nodes(2) as fleet:
        good, odd = fleet
        where = (("Location", f"{target.url}/api/chat"), ("Set-Cookie", "a=b"))
        odd.behaviour = Behaviour(status=302, headers=where, paths=("/api/tags", "/api/ps", "/api/version"))
        async with scene(start, fleet) as it:
            assert (await it.seen(odd))["state"] in ("new", "down"), "a redirect is no answer to a probe"
            for status in (301, 302, 303, 307, 308):
                outcome = await broken(it, Behaviour(status=status, headers=where), stream=bool(status % 2))
                assert (outcome.status, outcome.code) == (502, "backend_failed")
            for encoding in ("gzip", "br"):
                outcome = await broken(it, Behaviour(headers=(("Content-Encoding", encoding),)), stream=True)
                assert (outcome.status, outcome.code) == (502, "backend_failed")
            plain = await it.call(stream=True)
            noise = tuple((f"X-Noise-{number}", "y" * 50) for number in range(100))
            cors = (("Access-Control-Allow-Origin", "*"), ("Server", "odd"), ("Via", "1.1 odd"))
            noisy = await broken(it, Behaviour(headers=(*noise, *cors, *where)), stream=True)
            assert noisy.ended_well
            assert noisy.reply.headers.keys() == plain.reply.headers.keys()
            assert "odd" not in str(noisy.reply.headers) and "set-cookie" not in noisy.reply.headers
            assert not target.ledger.received and target.ledger.connections == 0
            assert {one.headers["accept-encoding"] for one in good.ledger.inference} == {"identity"}
            print(f"\n{len(good.ledger.inference)} calls: 0 headers passed on, 0 requests to where redirects point")
    await target.stop()


def peak_bytes(it: Scene) -> int:
    """The most memory that the first replica has ever had."""
    status = Path(f"/proc/{it.world.replicas[0][0].pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
