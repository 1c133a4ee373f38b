"""The pure parts of the admin API: limits beside other fields, credits as people write them, texts that show."""

from typing import Any

import msgspec
import pytest

from gateway.core.limits import Limits, ModelLimits
from gateway.errors import BadRequest
from gateway.web.admin import amounts, guard, limit_fields, words
from gateway.web.admin.limit_fields import LimitFields


def given(**fields: Any) -> LimitFields:
    return msgspec.json.decode(msgspec.json.encode(fields), type=LimitFields)


def test_a_limit_is_left_set_lifted_or_given_back() -> None:
    own = Limits(rate_limit_per_min=5, burst=2, tokens_per_min=None)
    assert limit_fields.changed(own, given()) == own
    assert limit_fields.changed(own, given(burst=None)).burst is None
    assert limit_fields.changed(own, given(burst="inherit")) == Limits(rate_limit_per_min=5, tokens_per_min=None)
    assert limit_fields.changed(Limits(), given(concurrency=3)) == Limits(concurrency=3)
    models = limit_fields.changed(own, given(model_limits={"Llama3.2": {"tokens_per_min": 9}})).model_limits
    assert models == {"llama3.2:latest": ModelLimits(tokens_per_min=9)}
    assert limit_fields.changed(own, given(model_limits="inherit")) == own


def test_what_is_told_of_limits_says_the_same_when_it_is_sent_back() -> None:
    own = Limits(rate_limit_per_min=5, tokens_per_min=None, model_limits={"a*": ModelLimits(rate_limit_per_min=1)})
    told = limit_fields.own(own)
    assert told["burst"] == "inherit"
    assert limit_fields.changed(Limits(concurrency=9), given(**msgspec.to_builtins(told))) == own
    assert limit_fields.in_force(Limits(burst=1)) == {
        "rate_limit_per_min": None,
        "burst": 1,
        "tokens_per_min": None,
        "concurrency": None,
        "monthly_token_limit": None,
        "model_limits": {},
    }


@pytest.mark.parametrize(
    ("credits", "micro"), [(1, 10**6), (0.1, 100_000), (1e-6, 1), (-2.5, -2_500_000), (999_999_999.999999, 10**15 - 1)]
)
def test_credits_are_read_as_they_are_written(credits: float, micro: int) -> None:
    assert amounts.micro(credits, "credits") == micro


@pytest.mark.parametrize("credits", [1e-7, 0.1 + 0.2, 1.0000001, float("nan"), float("inf")])
def test_credits_that_are_too_fine_are_refused(credits: float) -> None:
    with pytest.raises(BadRequest) as error:
        amounts.micro(credits, "credits")
    assert error.value.param == "credits"


def test_a_multiplier_has_three_decimals() -> None:
    assert [amounts.milli(number) for number in (0, 0.001, 1, 2.5, 100)] == [0, 1, 1_000, 2_500, 100_000]
    with pytest.raises(BadRequest):
        amounts.milli(0.0001)


@pytest.mark.parametrize("text", ["a\nb", "\x00", "a\u202eb", "\u200b", "\u061c", "\u2028", "\ufeff", "\x85"])
def test_characters_that_do_not_show_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        words.checked(text, "label")


def test_other_texts_pass() -> None:
    for text in ("Zoë's notebook 🙂", "a b", "数据", "", None):
        words.checked(text, "label")


def test_a_secret_is_held_against_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(guard, "compare_digest", compare)
    assert guard._is_one_of("first", ("first", "second"))
    assert guard._is_one_of("second", ("first", "second"))
    assert not guard._is_one_of("Zoë", ("first", "second"))
    assert len(compared) == 6
    assert {len(one) for one in compared} == {32}


def test_the_admin_api_is_on_its_own_port_alone() -> None:
    def scope(server: Any) -> dict[str, Any]:
        return {"server": server}

    assert not guard.is_elsewhere(scope(("127.0.0.1", 8000)), 0)
    assert not guard.is_elsewhere(scope(("127.0.0.1", 9000)), 9000)
    assert guard.is_elsewhere(scope(("127.0.0.1", 8000)), 9000)
    assert guard.is_elsewhere(scope(("/run/gateway.sock", None)), 9000)
    assert guard.is_elsewhere(scope(None), 9000)
