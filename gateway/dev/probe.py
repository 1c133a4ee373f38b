"""Asks Ollama nodes what they are and have, for people: `check`, and the screen of `up`."""

import asyncio
from typing import Any

from msgspec import Struct

MODELS_SHOWN_MAX = 1_000


class Node(Struct, frozen=True, kw_only=True):
    """What one node said. `problem` is empty when it answered. Models in the node's order."""

    url: str
    version: str = ""
    models: tuple[str, ...] = ()
    chat_models: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    problem: str = ""


async def ask_all(urls: tuple[str, ...], timeout_s: float) -> list[Node]:
    """All nodes at once, each for at most `timeout_s`."""
    import httpx

    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
        return list(await asyncio.gather(*(_ask(client, url) for url in urls)))


async def _ask(client: Any, url: str) -> Node:
    import httpx

    try:
        version, tags, ps = await asyncio.gather(*(_get(client, url, what) for what in ("version", "tags", "ps")))
        models = (tags.get("models") or [])[:MODELS_SHOWN_MAX]
        return Node(
            url=url,
            version=str(version["version"]),
            models=tuple(str(model["name"]) for model in models),
            chat_models=tuple(str(m["name"]) for m in models if "completion" in m.get("capabilities", ["completion"])),
            loaded=tuple(str(model["name"]) for model in ps.get("models") or []),
        )
    except httpx.TimeoutException:
        return Node(url=url, problem="does not answer in time")
    except httpx.HTTPStatusError as error:
        return Node(url=url, problem=f"answers HTTP {error.response.status_code}")
    except httpx.HTTPError:
        return Node(url=url, problem="cannot be reached")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Node(url=url, problem="answers, but not as Ollama does")


async def _get(client: Any, url: str, what: str) -> Any:
    answer = await client.get(f"{url}/api/{what}")
    answer.raise_for_status()
    return answer.json()
