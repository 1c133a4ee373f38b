"""Whether a Redis can be trusted with limits: asked when a replica or a worker starts, if it answers then."""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.state import client

VERSION_MIN = (7, 0)


async def problems(url: str, timeout_ms: int) -> list[str]:
    """One line for each thing that must be changed first; none for a Redis that is away, which is no misconfiguration.

    What an access list does not let us ask is taken to be right.
    """
    redis = client.connect(url, timeout_ms)
    try:
        found = []
        version = await _version(redis)
        if version and version < VERSION_MIN:
            found.append(f"REDIS_URL: Redis {version[0]}.{version[1]} has no functions; version 7.0 is the oldest.")
        policy = (await redis.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            found.append(f"REDIS_URL: maxmemory-policy is {policy}, which forgets limits; set it to noeviction.")
        return found
    except (RedisError, OSError, TimeoutError):
        return []
    finally:
        await redis.aclose()


async def _version(redis: Redis) -> tuple[int, ...]:
    information = await redis.info("server")
    return tuple(int(part) for part in str(information.get("redis_version", "")).split(".")[:2] if part.isdigit())
