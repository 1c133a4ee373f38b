"""Whether a Redis can be trusted with limits: asked when a replica or a worker starts, if it answers then."""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.state import client
from gateway.state.slots import is_cluster, node_urls

VERSION_MIN = (7, 0)
NO_EVICTION = "noeviction"


async def problems(url: str, timeout_ms: int) -> list[str]:
    """One line for each thing that must be changed first; none for a Redis that is away, which is no misconfiguration.

    What an access list does not let us ask is taken to be right. Of a cluster, the nodes that the address names.
    """
    clustered = is_cluster(url)
    servers = node_urls(url) if clustered else [url]
    found = await asyncio.gather(*(_problems(server, timeout_ms, clustered) for server in servers))
    return list(dict.fromkeys(line for lines in found for line in lines))


async def _problems(url: str, timeout_ms: int, clustered: bool) -> list[str]:
    redis = client.connect(url, timeout_ms)
    try:
        found = []
        version, in_cluster, policy = await _about(redis)
        if version and version < VERSION_MIN:
            found.append(f"REDIS_URL: Redis {version[0]}.{version[1]} has no functions; version 7.0 is the oldest.")
        if in_cluster is True and not clustered:
            found.append("REDIS_URL: this Redis is part of a cluster; write it as redis+cluster://.")
        if in_cluster is False and clustered:
            found.append("REDIS_URL: this Redis is no cluster; write it as redis://.")
        if policy != NO_EVICTION:
            found.append(f"REDIS_URL: maxmemory-policy is {policy}, which forgets limits; set it to noeviction.")
        return found
    except (RedisError, OSError, TimeoutError):
        return []
    finally:
        await redis.aclose()


async def _about(redis: Redis) -> tuple[tuple[int, ...], bool | None, str]:
    """The version, whether it is a node of a cluster, what it evicts; nothing where it does not say.

    All by INFO: CONFIG GET would need a right that tells passwords, too.
    """
    information = await redis.info()
    version = tuple(int(part) for part in str(information.get("redis_version", "")).split(".")[:2] if part.isdigit())
    mode = information.get("redis_mode", information.get("server_mode"))
    policy = str(information.get("maxmemory_policy", NO_EVICTION))
    return version, None if mode is None else mode == "cluster", policy
