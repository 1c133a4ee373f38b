"""The names of the stub's models, and the bytes that they stand for."""

import msgspec
import pytest

from tests.bench import answers
from tests.bench.answers import END, MARK, format_of
from tests.bench.recipe import Recipe, read


def lines_of(framed: bytes) -> list[bytes]:
    """The bodies of chunks of HTTP, which have to be framed well."""
    found = []
    while framed != END:
        size, framed = framed.split(b"\r\n", 1)
        length = int(size, 16)
        found.append(framed[:length])
        assert framed[length : length + 2] == b"\r\n"
        framed = framed[length + 2 :]
    return found


def test_a_name_says_how_to_answer() -> None:
    assert read("n200d10t50") == Recipe(chunks=200, gap_ms=10, first_ms=50)
    assert read("s64:latest") == Recipe(text_bytes=64)
    assert read("v64") == Recipe(vectors=64)


@pytest.mark.parametrize("name", ["", "llama3.2:3b", "n200x", "n", "200", "q5"])
def test_other_names_are_no_recipes(name: str) -> None:
    with pytest.raises(ValueError, match=r"recipe|unknown part"):
        read(name)


@pytest.mark.parametrize("path", [b"/api/chat", b"/v1/chat/completions"])
def test_a_burst_has_each_chunk_once_and_an_end(path: bytes) -> None:
    form = format_of(path, "n5")
    *chunks, last = lines_of(form.burst)
    assert len(chunks) == 5
    assert [chunk.count(MARK) for chunk in chunks] == [1] * 5
    assert MARK not in last
    assert {len(chunk) for chunk in chunks} == {len(chunks[0])}
    assert len(form.chunk(12, 34)) == len(answers.framed(chunks[0]))


def test_a_chunk_tells_when_it_was_asked_for_and_when_it_left() -> None:
    (line, *_) = lines_of(format_of(b"/api/chat", "n5").chunk(12, 34) + END)
    text = msgspec.json.decode(line)["message"]["content"]
    assert text == "~" + "12".rjust(16, "0") + "34".rjust(16, "0")


def test_an_answer_has_as_many_vectors_as_its_model_says() -> None:
    whole = msgspec.json.decode(format_of(b"/api/embed", "v3").whole)
    assert [len(vector) for vector in whole["embeddings"]] == [answers.DIMENSIONS] * 3
