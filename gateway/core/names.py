"""Model names: one spelling for each model, before anything is decided by name.

Ollama takes `llama3.2`, `LLAMA3.2:latest`, `library/llama3.2`, `registry.ollama.ai/library/llama3.2` and
`https://…:local` for the same model (reference: ollama-http section 2.0). Lists, limits, routing and metrics see only
the canonical form: lower case, no default registry or namespace, always a tag.
"""

import re
from functools import lru_cache

NAME_CHARS_MAX = 200
SPELLING_CHARS_MAX = 400
AT_HAND_MAX = 1_024
"""spellings whose canonical form is kept: most calls use few"""
_REGISTRY, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_FORM = re.compile(r"[a-z0-9][a-z0-9._:/-]*", re.ASCII)
_OF_HOSTS = re.compile("[.:]")
_GLOB = re.compile(r"[a-z0-9*][a-z0-9*._:/-]*", re.ASCII)
_STARS = re.compile(r"\*+")


def canonical(name: str) -> str | None:
    """The one spelling of `name`, such as `llama3.2:latest`; None when it cannot be a model's name."""
    text = name.strip().lower().removeprefix("https://").removeprefix("http://")
    return None if len(text) > SPELLING_CHARS_MAX else _canonical(text)


@lru_cache(AT_HAND_MAX)
def _canonical(text: str) -> str | None:
    if not _FORM.fullmatch(text):
        return None
    while text.endswith(":local"):
        text = text.removesuffix(":local")
    *parents, last = text.split("/")
    model, _, tag = last.partition(":")
    while parents and parents[0] == _REGISTRY:
        parents = parents[1:]
    if parents == [_NAMESPACE]:
        parents = []
    if not model or ":" in tag or len(parents) > 2 or not all(parents):
        return None
    if parents and _OF_HOSTS.search(parents[-1]):  # no namespace: a host stands before one
        return None
    found = "/".join([*parents, f"{model}:{tag or _TAG}"])
    return found if len(found) <= NAME_CHARS_MAX else None


def glob(text: str) -> str | None:
    """A glob of canonical names (`*`: any characters), or the one spelling of a name; None when it is neither."""
    text = text.strip().lower()
    if "*" not in text:
        return canonical(text)
    return text if len(text) <= NAME_CHARS_MAX and _GLOB.fullmatch(text) else None


def matches(glob: str, name: str) -> bool:
    """Whether a canonical name fits a glob: `matches` of owner.lua."""
    return re.fullmatch(".*".join(map(re.escape, _STARS.split(glob))), name) is not None


def allowed(globs: tuple[str, ...], name: str) -> bool:
    """Whether a key that may use `globs` may use the model; none: all."""
    return not globs or any(matches(one, name) for one in globs)


def registry(name: str) -> str:
    """The host that a canonical name is pulled from; it is named only before a namespace (host/namespace/model:tag)."""
    *parents, _ = name.split("/")
    return parents[0] if len(parents) == 2 else _REGISTRY


def spelled(name: str) -> str:
    """A valid name in its own letter case, which some registries tell apart; without a scheme, which may be http."""
    return name.strip().rpartition("://")[2]


def is_cloud(name: str) -> bool:
    """Whether a canonical name makes Ollama forward the prompt to ollama.com."""
    tag = name.rpartition(":")[2]
    return tag == "cloud" or tag.endswith("-cloud")
