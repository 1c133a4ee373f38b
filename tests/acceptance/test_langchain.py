"""LangChain's two clients, each with one chain: a prompt, a model, a parser; whole and streamed."""

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from gateway.dev.fake_ollama import FakeOllama
from tests.world import World, bearer

TEXT = "Blue light scatters most."
PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "Why is the {thing} blue?")])


async def answers(chain: Runnable[dict[str, str], str], fake: FakeOllama) -> None:
    """The chain works whole and as a stream, and the model sees the filled-in prompt."""
    assert await chain.ainvoke({"thing": "sky"}) == TEXT
    pieces = [piece async for piece in chain.astream({"thing": "sky"})]
    assert "".join(pieces) == TEXT
    assert len([piece for piece in pieces if piece]) == 5
    for asked in fake.ledger.inference:
        assert [message["content"] for message in asked.body["messages"]] == ["Be brief.", "Why is the sky blue?"]


async def test_a_chain_of_langchain_openai(world: World, fake: FakeOllama) -> None:
    key = await world.create_key()
    model = ChatOpenAI(model="llama3.2:3b", base_url=f"{world.url}/v1", api_key=key, max_retries=0)
    await answers(PROMPT | model | StrOutputParser(), fake)
    rows = await world.rows(2)
    assert {(row["endpoint"], row["status"]) for row in rows} == {("/v1/chat/completions", "ok")}


async def test_embeddings_of_langchain_openai(world: World) -> None:
    key = await world.create_key()
    model = OpenAIEmbeddings(
        model="nomic-embed-text", base_url=f"{world.url}/v1", api_key=key, check_embedding_ctx_length=False
    )
    vectors = await model.aembed_documents(["first", "second"])
    assert [len(vector) for vector in vectors] == [768, 768]
    await world.rows(1)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_chain_of_langchain_ollama(world: World, fake: FakeOllama, streaming: bool) -> None:
    key = await world.create_key()
    model = ChatOllama(
        model="llama3.2:3b",
        base_url=world.url,
        client_kwargs={"headers": bearer(key)},
        disable_streaming=not streaming,
    )
    chain = PROMPT | model | StrOutputParser()
    if streaming:
        await answers(chain, fake)
    else:
        assert await chain.ainvoke({"thing": "sky"}) == TEXT
    rows = await world.rows(2 if streaming else 1)
    assert {(row["endpoint"], row["status"]) for row in rows} == {("/api/chat", "ok")}
