"""The OpenAPI document is true: 10,000 requests made of it, good and bad ones, get only what it says, and no 5xx."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import ADMIN_SECRET, bearer

EXAMPLES = 10_000
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance, content_type_conformance]
MODELS = ("llama3.2:3b", "qwen3:8b", "nomic-embed-text")


def _given_a_real_model(case: Any, model: str | None) -> Any:
    """Half of the requests name a model that there is, so that they get as far as an answer."""
    if model and isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = model
    return case


def _tried(operation: Any, mode: GenerationMode, count: int, ask: Callable[[Any], None]) -> None:
    """Up to `count` examples of one kind. Fewer where there are no more."""
    cases = operation.as_strategy(generation_mode=mode)

    @hypothesis.seed(random.randrange(2**32))
    @hypothesis.settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, model=st.sampled_from([None, *MODELS]))
    def each(case: Any, model: str | None) -> None:
        ask(_given_a_real_model(case, model))

    each()


@pytest.mark.timeout(900)
async def test_ten_thousand_requests_get_only_documented_answers(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url]) as world:
        key = await world.create_key(rate_limit_per_min=1_000_000, monthly_token_limit=None)
        document = (await world.http.get(f"{world.url}/openapi.json")).json()
        statuses = await asyncio.to_thread(_drive, document, world.url, key)
    print(f"{sum(statuses.values())} requests, SEED={os.environ['SEED']}: {dict(sorted(statuses.items()))}")
    assert sum(statuses.values()) >= EXAMPLES
    assert statuses[200] > EXAMPLES // 20


def _drive(document: dict[str, Any], url: str, key: str) -> Counter[int]:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    operations = [found.ok() for found in schema.get_all_operations()]
    rich = [one for one in operations if one.body]
    statuses: Counter[int] = Counter()
    headers = bearer(key) | {"X-Admin-Secret": ADMIN_SECRET}

    def ask(case: Any) -> None:
        reply = case.call(headers=headers)
        statuses[reply.status_code] += 1
        case.validate_response(reply, checks=CHECKS)

    for operation in operations:
        count = -(-EXAMPLES // len(rich)) if operation in rich else 20
        _tried(operation, GenerationMode.POSITIVE, count - count // 3, ask)
        if operation in rich:
            _tried(operation, GenerationMode.NEGATIVE, count // 3 + 1, ask)
    return statuses
