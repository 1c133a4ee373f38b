"""CSV that every reader reads the same, and that no spreadsheet takes for formulas."""

import csv
import io
import random
from typing import Any

import pytest

from gateway.core import sheet

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("first", DANGEROUS)
def test_a_text_that_begins_like_a_formula_gets_a_sign_before_it(first: str) -> None:
    (_, row) = read(sheet.text(["label"], [[f'{first}HYPERLINK("http://x","y")']]))
    assert row == [f'\'{first}HYPERLINK("http://x","y")']


def test_texts_without_that_stay_as_they_are_and_numbers_are_numbers() -> None:
    cells = ["a=b", "'=1", " =1", "", None, "a,b", 'say "x"', "two\r\nlines", "ü", -1, -2.5, 0.0, 1e-06, 12345678.9, 3]
    expected = ["a=b", "'=1", " =1", "", "", "a,b", 'say "x"', "two\r\nlines", "ü", "-1", "-2.5", "0", "0.000001"]
    text = sheet.text([str(number) for number in range(len(cells))], [cells])
    assert read(text)[1] == [*expected, "12345678.9", "3"]
    assert text.endswith("\r\n")


def test_whatever_is_written_is_read_back_with_one_sign_more_at_most() -> None:
    signs = [*DANGEROUS, "\n", ",", '"', "'", " ", "a", "é", "\uff1d", ";", "|"]
    rows: list[list[Any]] = [
        ["".join(random.choices(signs, k=random.randrange(1, 9))) for _ in range(4)] for _ in range(500)
    ]
    text = sheet.text(["a", "b", "c", "d"], rows)
    for row, found in zip(rows, read(text)[1:], strict=True):
        for cell, shown in zip(row, found, strict=True):
            assert shown in (cell, f"'{cell}")
            assert not shown.startswith(DANGEROUS)
