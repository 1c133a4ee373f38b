"""What operators say of the fleet: its nodes and the names they give to models. Pure records; Postgres holds them."""

from typing import Any

from msgspec import Struct

SLOTS_MAX = 1_024
WEIGHT_MAX = 1_000
WEIGHT = 100
NODES_MAX = 1_000
ALIASES_MAX = 1_000
TARGETS_MAX = 16
TAGS_MAX = 32
TAG_CHARS_MAX = 64
URL_CHARS_MAX = 500
BEARER_CHARS_MAX = 4_096
CA_CHARS_MAX = 65_536
CONTEXT_TOKENS_MAX = 10_000_000
"""of an alias"""
OPTIONS_CHARS_MAX = 8_192
"""of an alias, as JSON"""
NODE_NAME = r"^[0-9A-Za-z\[][0-9A-Za-z._:\[\]-]{0,127}$"
"""also host:port, which a node is called that nobody has named"""


class Node(Struct, frozen=True, kw_only=True):
    """One Ollama server as its operator describes it. Named nodes of the setting OLLAMA_BASE_URL are such too."""

    name: str
    url: str
    slots: int = 4
    """calls it works on at a time, of all replicas together"""
    weight: int = WEIGHT
    """among equals the heavier one is preferred"""
    draining: bool = False
    """it gets no new calls; those that run end by themselves"""
    tags: tuple[str, ...] = ()
    """the operator's own words"""
    bearer: str = ""
    """sent as Authorization: Bearer; never shown"""
    ca_pem: str = ""
    """certificates that its own is to be signed by; "": the system's"""

    def __repr__(self) -> str:
        return f"<Node {self.name}>"  # never the bearer


class Alias(Struct, frozen=True, kw_only=True):
    """A name of the operator's for a model. Calls are charged and limited as calls of the model that answers."""

    name: str
    """canonical, as a model's"""
    targets: tuple[str, ...]
    """canonical names of models, the first that can be served now answers"""
    options: dict[str, Any] = {}
    """of sampling, in Ollama's names; they win over the client's"""
    context_tokens: int | None = None
    """its num_ctx, whatever the client asks for"""


class Registry(Struct, frozen=True, kw_only=True):
    """Everything replicas are told. `version` grows with every change of any of it."""

    version: int = 0
    nodes: tuple[Node, ...] = ()
    aliases: tuple[Alias, ...] = ()
