"""Nodes as operators describe them, checked field by field. Pure."""

import ssl
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from gateway.core import node_url
from gateway.core.fleet import (
    BEARER_CHARS_MAX,
    CA_CHARS_MAX,
    NODE_NAME,
    SLOTS_MAX,
    TAG_CHARS_MAX,
    TAGS_MAX,
    URL_CHARS_MAX,
    WEIGHT_MAX,
    Node,
)
from gateway.errors import BadRequest
from gateway.web.admin import words

NAME_CHARS_MAX = 128
NAME_RULE = f"A backend's name has up to {NAME_CHARS_MAX} letters, digits and any of . _ : - [ ], such as gpu-1."
BEARER_RULE = "A bearer has only visible ASCII characters; null for none."
TAG_RULE = "A tag has no space in it."
NO_CA = "`ca_pem` holds no certificate that can be read. Write it in PEM."
PRIVATE = "PRIVATE KEY"

Slots = Annotated[int, Meta(ge=1, le=SLOTS_MAX)]
NodeWeight = Annotated[int, Meta(ge=1, le=WEIGHT_MAX)]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=TAG_CHARS_MAX)]], Meta(max_length=TAGS_MAX)]
Bearer = Annotated[str, Meta(min_length=1, max_length=BEARER_CHARS_MAX)]
Certificates = Annotated[str, Meta(min_length=1, max_length=CA_CHARS_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX, extra_json_schema={"pattern": NODE_NAME})]
Url = Annotated[str, Meta(min_length=1, max_length=URL_CHARS_MAX)]


class ChangeBackend(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is. `slots`: calls it works on at a time, of all replicas together.

    `draining`: it gets no new calls. `bearer` is sent to it and shown to nobody; `ca_pem` are the certificates that its
    own is to be signed by; null removes either.
    """

    slots: Slots | UnsetType = UNSET
    weight: NodeWeight | UnsetType = UNSET
    draining: bool | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    bearer: Bearer | UnsetType | None = UNSET
    ca_pem: Certificates | UnsetType | None = UNSET


class CreateBackend(ChangeBackend, kw_only=True, forbid_unknown_fields=True):
    """A new node. Its name is its host and port unless given; neither that nor its URL changes later."""

    url: Url
    name: Name | UnsetType = UNSET


def made(given: CreateBackend) -> Node:
    """Raises `BadRequest` that names the field."""
    try:
        url = node_url.checked(given.url)
    except ValueError as wrong:
        raise BadRequest(f"That is no URL of a backend. {wrong}", param="url") from None
    name = node_url.name_of(url) if given.name is UNSET else given.name
    words.fits(name, NODE_NAME, "name", NAME_RULE)
    return changed(Node(name=name, url=url), given)


def changed(node: Node, given: ChangeBackend) -> Node:
    """The node with what is given. Raises `BadRequest` that names the field."""
    names = ("slots", "weight", "draining")
    said: dict[str, Any] = {name: value for name in names if (value := getattr(given, name)) is not UNSET}
    if given.tags is not UNSET:
        said["tags"] = tuple(dict.fromkeys(map(_tag, given.tags)))
    if given.bearer is not UNSET:
        words.fits(given.bearer, "[!-~]+", "bearer", BEARER_RULE)
        said["bearer"] = given.bearer or ""
    if given.ca_pem is not UNSET:
        said["ca_pem"] = _certificates(given.ca_pem or "", node.url)
    return replace(node, **said)


def _tag(text: str) -> str:
    words.checked(text, "tags")
    words.fits(text, r"\S+", "tags", TAG_RULE)
    return text


def _certificates(pem: str, url: str) -> str:
    if not pem:
        return ""
    if not url.startswith("https://"):
        raise BadRequest("`ca_pem` is of use only with a URL that begins with https://.", param="ca_pem")
    if PRIVATE in pem:
        raise BadRequest("`ca_pem` holds a private key, which belongs on the node alone.", param="ca_pem")
    try:
        found = ssl.create_default_context(cadata=pem).cert_store_stats()["x509"]
    except (ssl.SSLError, ValueError, TypeError):  # it is PEM, which is ASCII
        raise BadRequest(NO_CA, param="ca_pem") from None
    if not found:
        raise BadRequest(NO_CA, param="ca_pem")
    return pem
