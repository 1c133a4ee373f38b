"""What operators say of the fleet, as replicas read it: one document, written by the admin API and by the worker."""

import msgspec

from gateway.core.fleet import Registry
from gateway.state import keyspace
from gateway.state.functions import Functions


class RegistryDirectory:
    """`functions` are the fleet's."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    async def publish(self, registry: Registry) -> None:
        """Write it, unless Redis has a newer one. Raises `LimitsUnavailable`."""
        args: list[str | int | bytes] = [registry.version, msgspec.json.encode(registry)]
        for node in registry.nodes:
            args += [node.name, 0 if node.draining else node.slots]
        await self._functions.call("register", keyspace.fleet(), args)
