"""Every name in Redis, and nothing else makes one.

    name                          type    what                             written by            expires
    {sNN}:ready                   string  the shard holds every key        worker (hydrate)      never
    {sNN}:hydrating:<mark>        string  a hydration began on this data   worker (hydrate)      in an hour
    {sNN}:prices                  hash    prices of all models             admin API, hydrate    never
    {sNN}:key:<key id>            hash    who a key is, what it may do     admin API, hydrate    never
    {sNN}:account:<key id>        hash    credits, tokens of the month     functions, hydrate    never
    {sNN}:buckets:<key id>        hash    requests, tokens per minute      admit, settle, void   when all are full
    {sNN}:running:<key id>        zset    open calls by deadline           admit, renew, settle  1 h after a change
    {sNN}:outputs:<key id>        hash    how long answers of a model are  settle                30 days after one
    {sNN}:team:<team id>          hash    what a team may do               admin API, hydrate    never
    {sNN}:team-account:<team id>  hash    as account                       functions, hydrate    never
    {sNN}:team-buckets:<team id>  hash    as buckets                       admit, settle, void   when all are full
    {sNN}:team-running:<team id>  zset    as running                       admit, renew, settle  1 h after a change
    {sNN}:lease:<call id>         hash    what a call holds, or that it    admit, renew, settle  1 h after its end
                                          has been settled
    {sNN}:leases                  zset    all open calls of the shard      admit, renew, settle  never
    {sNN}:usage                   stream  usage events not stored yet      settle, reap          when committed
    {sNN}:usage:dead              stream  events no row can be made of     worker                never
    {sNN}:reconciling             string  which worker compares the books  worker (books)        in an hour
    {sNN}:failures:<address>      string  an address' failures to say      blame                 when full again
                                          who it is
    {fleet}:registry              hash    what operators say of the fleet  admin API, hydrate    never
    {fleet}:capacity              hash    slots of its nodes               admin API, hydrate    never
    {fleet}:slots                 zset    slots taken, by deadline         place, hold, leave    never
    {fleet}:held                  hash    what each slot is held for       place, leave          never
    {fleet}:busy                  hash    slots taken of each node         place, leave          never
    {fleet}:loads                 hash    loads under way, and done        place, loaded, leave  never
    {fleet}:line                  zset    keys that wait, by virtual time  place, leave          never
    {fleet}:places                zset    calls that wait, by key          place, leave          never
    {fleet}:arrivals              zset    the same, by model               place, leave          never
    {fleet}:waiting               hash    what each of them asks           place, leave          never
    {fleet}:patience              zset    the same, by deadline            place, leave          never
    {fleet}:served                hash    virtual times of keys            place, leave          in 10 min
    {fleet}:depths                hash    calls that wait, by model        place, leave          never
    {fleet}:rates                 hash    how fast nodes are with models   leave                 never
    {fleet}:prefixes              hash    which node has served a prompt's place, leave          at 50,000
                                          beginning last, by digest
    {fleet}:ages                  zset    the same, by time                place, leave          at 50,000
    {fleet}:nodes                 hash    what probes and breakers say     saw, judge            never
    {fleet}:changes               zset    the same, by revision            saw, judge            never
    {fleet}:turns                 hash    when nodes are probed, shown     sync                  at 20,000

NN is CRC16 of the id (of a key, a team, an address) modulo the setting SHARDS. Everything that one call touches carries
one hash tag, so the same functions run unchanged on Redis Cluster; a key is in the shard of its team. The fleet has a
tag of its own: the places of all calls are decided together. A test compares this table with the names that are made.
What expires may live a minute longer than it says there (bucket.lua).
"""

from functools import lru_cache

from gateway.core.keys import SHARDS_MAX, shard_of

USAGE_GROUP = "workers"
AT_HAND_MAX = 4_096
"""keys whose names are kept: each of their calls needs them several times"""


@lru_cache(SHARDS_MAX)
def shard_tag(shard: int) -> str:
    return f"{{s{shard:02d}}}"


def ready(shard: int) -> str:
    return f"{shard_tag(shard)}:ready"


def hydrating(shard: int, mark: str) -> str:
    return f"{shard_tag(shard)}:hydrating:{mark}"


def prices(shard: int) -> str:
    return f"{shard_tag(shard)}:prices"


def leases(shard: int) -> str:
    return f"{shard_tag(shard)}:leases"


def lease(shard: int, call_id: str) -> str:
    return f"{shard_tag(shard)}:lease:{call_id}"


def usage(shard: int) -> str:
    return f"{shard_tag(shard)}:usage"


def usage_dead(shard: int) -> str:
    return f"{shard_tag(shard)}:usage:dead"


def reconciling(shard: int) -> str:
    return f"{shard_tag(shard)}:reconciling"


def failures(address: str, shards: int) -> str:
    return f"{shard_tag(shard_of(address, shards))}:failures:{address}"


class KeyNames:
    """The names that belong to one API key."""

    __slots__ = ("account", "buckets", "key", "outputs", "running", "shard")

    def __init__(self, key_id: str, shards: int) -> None:
        self.shard = shard_of(key_id, shards)
        tag = shard_tag(self.shard)
        self.key = f"{tag}:key:{key_id}"
        self.account = f"{tag}:account:{key_id}"
        self.buckets = f"{tag}:buckets:{key_id}"
        self.running = f"{tag}:running:{key_id}"
        self.outputs = f"{tag}:outputs:{key_id}"

    def all(self) -> list[str]:
        """In the order in which the functions take them (`owners_at` in owner.lua)."""
        return [self.key, self.account, self.buckets, self.running, self.outputs]


@lru_cache(AT_HAND_MAX)
def of_key(key_id: str, shards: int) -> KeyNames:
    """The same names, for who needs them again and again."""
    return KeyNames(key_id, shards)


class TeamNames:
    """The names that belong to one team."""

    __slots__ = ("account", "buckets", "running", "shard", "team")

    def __init__(self, team_id: str, shards: int) -> None:
        self.shard = shard_of(team_id, shards)
        tag = shard_tag(self.shard)
        self.team = f"{tag}:team:{team_id}"
        self.account = f"{tag}:team-account:{team_id}"
        self.buckets = f"{tag}:team-buckets:{team_id}"
        self.running = f"{tag}:team-running:{team_id}"

    def all(self) -> list[str]:
        """In the order in which the functions take them, behind those of the key."""
        return [self.team, self.account, self.buckets, self.running]


FLEET_TAG = "{fleet}"
_FLEET = (
    "registry", "capacity", "slots", "held", "busy", "loads", "line", "places", "waiting", "patience", "served",
    "depths", "rates", "prefixes", "ages", "nodes", "changes", "turns", "arrivals",
)  # fmt: skip


def fleet() -> list[str]:
    """All names of the fleet, in the order in which its functions take them (`fleet_at` in slots.lua)."""
    return [f"{FLEET_TAG}:{name}" for name in _FLEET]


def woken(replica: str) -> str:
    """The channel on which a replica hears that one of its waiting calls has a slot."""
    return f"{FLEET_TAG}:woken:{replica}"
