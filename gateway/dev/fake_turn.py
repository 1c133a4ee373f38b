"""One request's way through the fake node: its model loaded, a slot of it, the prompt, the answer."""

import asyncio

import msgspec

from gateway.dev.fake_faults import KILLED, Behaviour
from gateway.dev.fake_generation import Durations, Generation, error_body
from gateway.dev.fake_hardware import LOADED_NS, TOKEN_NS
from gateway.dev.fake_ledger import Exchange, Ledger
from gateway.dev.fake_memory import Memory
from gateway.dev.fake_prompts import tokens_of
from gateway.dev.fake_routes import Answer
from gateway.dev.fake_runner import Job, Runner
from gateway.dev.fake_sender import Sender, Whole

NS = 1_000_000_000


class Turn:
    """Answers one request, as well as memory, hardware and behaviour allow."""

    def __init__(
        self, memory: Memory, ledger: Ledger, exchange: Exchange, behaviour: Behaviour, sender: Sender
    ) -> None:
        self._memory = memory
        self._ledger = ledger
        self._exchange = exchange
        self._behaviour = behaviour
        self._sender = sender
        self._clock = asyncio.get_running_loop().time

    async def take(self, answer: Answer, *, headers_only: bool = False) -> None:
        """Raises `Dropped` and ConnectionError."""
        job = answer.job
        if job is None:
            await self._send(answer.said, headers_only=headers_only)
            return
        self._ledger.works_for(self._exchange, job.model.name)
        if self._behaviour.load_failure:
            if job.model.name not in {runner.model.name for runner in self._memory.runners}:
                await self._memory.fail(job)
            await self._send(answer.said)
            return
        deadly = self._deadly(job)
        began_s = self._clock()
        async with self._memory.seat(job) as runner:
            load_s = self._clock() - began_s
            if job.loads_only:
                await self._send(answer.said)
            elif deadly:
                await self._die(job)
            else:
                await self._run(answer.said, job, runner, load_s)

    async def _run(self, said: Whole | Generation, job: Job, runner: Runner, load_s: float) -> None:
        asked_s = self._clock()
        try:
            async with runner.slot(self._memory.hardware.parallel):
                slot_s = self._clock() - asked_s
                await self._memory.until_answers(job.model)
                evaluated = await self._evaluate(job, runner)
                await self._send(self._measured(said, evaluated, load_s, slot_s))
                if isinstance(said, Generation):
                    self._remember(said, job, runner)
        except (asyncio.CancelledError, ConnectionError):
            self._leak(said, job)
            raise

    async def _evaluate(self, job: Job, runner: Runner) -> int:
        """The silence before the first byte. How many tokens of the prompt it was for."""
        hardware, whole = self._memory.hardware, tokens_of(job.parts)
        evaluated = whole
        if job.cached and hardware.prompt_cache is not None:
            evaluated = runner.cache.evaluate(job.parts, hardware.prompt_cache)
        self._ledger.evaluated(self._exchange, whole, evaluated)
        if hardware.prompt_ms_per_token:
            await asyncio.sleep(hardware.prompt_s(evaluated))
        return evaluated

    def _measured(self, said: Whole | Generation, evaluated: int, load_s: float, slot_s: float) -> Whole | Generation:
        """The answer with what it took, as far as the hardware says how long things take."""
        hardware, rate = self._memory.hardware, self._behaviour.tokens_per_s
        durations = Durations(
            load_ns=round(load_s * NS) if hardware.load_ms else LOADED_NS,
            slot_ns=round(slot_s * NS) if hardware.parallel else 0,
            prompt_token_ns=hardware.prompt_token_ns,
            token_ns=NS / rate if rate else TOKEN_NS,
        )
        if isinstance(said, Generation):
            said.evaluated_tokens, said.durations = evaluated, durations
        elif said.counted and (hardware.load_ms or hardware.prompt_ms_per_token):
            took = durations.metrics(evaluated, 0)
            told = {name: took[name] for name in ("total_duration", "load_duration")}
            said.body = msgspec.json.encode(said.counted | told)
        return said

    def _remember(self, said: Generation, job: Job, runner: Runner) -> None:
        if (most := self._memory.hardware.prompt_cache) is not None:
            runner.cache.answered(job.parts, "".join(said.tokens), most)

    def _leak(self, said: Whole | Generation, job: Job) -> None:
        """Wedge the model, when its client has left amid a stream. A fake that stops is no such client."""
        streamed = isinstance(said, Generation) and said.streamed and not self._exchange.dropped
        if self._memory.hardware.leaks_slot and streamed and self._exchange.tokens_sent:
            self._memory.wedged |= {job.model.name}

    def _deadly(self, job: Job) -> bool:
        killer = self._behaviour.kills
        offered = killer is not None and any(killer in part.text for part in job.parts)
        self._ledger.offers += offered
        return offered

    async def _die(self, job: Job) -> None:
        self._memory.kill(job.model)
        if not self._behaviour.kills_with_error:
            self._sender.drop()
        await self._send(Whole(status=500, body=error_body(KILLED)))

    async def _send(self, said: Whole | Generation, *, headers_only: bool = False) -> None:
        await self._sender.before()
        if isinstance(said, Generation):
            self._exchange.status = 200 if said.streamed or said.error is None else 500
            await self._sender.generation(said)
        else:
            self._exchange.status = said.status
            await self._sender.whole(said, headers_only=headers_only)
