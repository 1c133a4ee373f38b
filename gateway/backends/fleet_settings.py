"""From the settings to what the fleet is told of all its nodes."""

from msgspec import Struct

from gateway.backends.sending import Patience
from gateway.core import node_url
from gateway.core.fleet import Node
from gateway.settings import Settings


class FleetSettings(Struct, frozen=True, kw_only=True):
    """What an operator says of all nodes together."""

    nodes: tuple[Node, ...]
    patience: Patience
    default_model: str | None
    allow_cloud: bool
    version_min: str
    wedge_s: float
    depth_max: int
    wait_ms_max: int


def of(settings: Settings) -> FleetSettings:
    return FleetSettings(
        nodes=tuple(_nodes(settings)),
        patience=Patience(
            connect_s=settings.ollama_connect_timeout,
            first_byte_s=settings.ollama_timeout,
            idle_s=settings.ollama_idle_timeout,
            total_s=settings.ollama_total_timeout,
        ),
        default_model=settings.ollama_default_model or None,
        allow_cloud=settings.allow_cloud_models,
        version_min=settings.ollama_version_min,
        wedge_s=settings.ollama_wedge_seconds,
        depth_max=settings.queue_length_max,
        wait_ms_max=int(settings.queue_seconds_max * 1000),
    )


def _nodes(settings: Settings) -> list[Node]:
    """Each node of the settings with the name that logs, rows and metrics use: host and port, which hold no secret."""
    urls = dict.fromkeys(node_url.checked(url) for url in settings.ollama_base_url)
    return [Node(name=node_url.name_of(url), url=url, slots=settings.ollama_slots) for url in urls]
