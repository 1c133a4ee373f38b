"""Every name in Redis, and nothing else makes one.

    name                     type    what                               written by            expires
    {sNN}:ready              string  the shard holds the whole key set  worker (hydrate)      never
    {sNN}:hydrating:<mark>   string  a hydration began on this data     worker (hydrate)      in an hour
    {sNN}:key:<key id>       hash    who a key is, what it may do       admin API, hydrate    never
    {sNN}:account:<key id>   hash    credit, tokens of the month        functions, hydrate    never
    {sNN}:requests:<key id>  hash    bucket of requests per minute      admit, void           when full again
    {sNN}:tokens:<key id>    hash    bucket of tokens per minute        admit, settle         when full again
    {sNN}:running:<key id>   zset    open calls by deadline             admit, renew, settle  1 h after the last change
    {sNN}:lease:<call id>    hash    what a call holds, or that it      admit, renew, settle  1 h after its end
                                     has been settled
    {sNN}:leases             zset    all open calls of the shard        admit, renew, settle  never
    {sNN}:usage              stream  usage events not stored yet        settle, reap          entries: when committed
    {sNN}:usage:dead         stream  events no row can be made of       worker                never

NN is CRC16(key id) modulo the setting SHARDS. Everything that one call touches carries one hash tag, so the same
functions run unchanged on Redis Cluster. A test compares this table with the names that are made.
"""

from gateway.core.keys import shard_of

USAGE_GROUP = "workers"


def shard_tag(shard: int) -> str:
    return f"{{s{shard:02d}}}"


def ready(shard: int) -> str:
    return f"{shard_tag(shard)}:ready"


def hydrating(shard: int, mark: str) -> str:
    return f"{shard_tag(shard)}:hydrating:{mark}"


def leases(shard: int) -> str:
    return f"{shard_tag(shard)}:leases"


def lease(shard: int, call_id: str) -> str:
    return f"{shard_tag(shard)}:lease:{call_id}"


def usage(shard: int) -> str:
    return f"{shard_tag(shard)}:usage"


def usage_dead(shard: int) -> str:
    return f"{shard_tag(shard)}:usage:dead"


class KeyNames:
    """The names that belong to one API key."""

    __slots__ = ("account", "key", "requests", "running", "shard", "tokens")

    def __init__(self, key_id: str, shards: int) -> None:
        self.shard = shard_of(key_id, shards)
        tag = shard_tag(self.shard)
        self.key = f"{tag}:key:{key_id}"
        self.account = f"{tag}:account:{key_id}"
        self.requests = f"{tag}:requests:{key_id}"
        self.tokens = f"{tag}:tokens:{key_id}"
        self.running = f"{tag}:running:{key_id}"
