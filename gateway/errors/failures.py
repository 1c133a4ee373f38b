"""What went wrong on our side of the wire: a model server's fault, or a part of this gateway that is away."""

from gateway.errors.base import Blame, GatewayError


class BackendFault(GatewayError):
    """The model server behind this gateway failed."""

    status, code = 502, "backend_failed"
    blames: Blame = "model"


class BackendUnreachable(BackendFault):
    """The model server behind this gateway could not be reached."""

    code = "backend_unreachable"
    elsewhere = True
    blames = "node"


class StreamBroken(BackendFault):
    """The model server stopped before its answer was complete."""

    code = "stream_broken"


class BackendTimeout(BackendFault):
    """The model server behind this gateway took too long."""

    status, code = 504, "backend_timeout"


class Unavailable(GatewayError):
    """A part of this gateway is away for the moment. Nothing was charged; try again shortly."""

    status, code = 503, "unavailable"
    retry_after_s = 5


class LimitsUnavailable(Unavailable):
    """The gateway cannot check keys and limits at the moment. Nothing was charged; try again shortly."""

    code = "limits_unavailable"


class TeamElsewhere(LimitsUnavailable):
    """This key's team lives in another shard since SHARDS was changed: an operator has to move the key out of it."""

    code = "team_elsewhere"


class KeysNotLoaded(LimitsUnavailable):
    """The gateway is still reading its keys back. Nothing was charged; try again shortly."""

    code = "keys_not_loaded"


class MeteringBacklog(Unavailable):
    """The gateway cannot record usage right now, so it takes no new calls. Nothing was charged; try again shortly."""

    code = "metering_backlog"
    retry_after_s = 10


class NotInForceYet(Unavailable):
    """The change is saved, and comes into force when the gateway's Redis is back: there is no need to send it again."""

    code = "not_in_force_yet"


class NoBackend(Unavailable):
    """No model server behind this gateway answers at the moment. Nothing was charged; try again shortly."""

    code = "no_backend"


class BackendBusy(Unavailable):
    """The model servers behind this gateway are busy. Nothing was charged; try again shortly."""

    code = "backend_busy"
    elsewhere = True
    retry_after_s = 2


class LineFull(Unavailable):
    """The waiting line for that model is full. Nothing was charged; try again shortly, or use another model."""

    code = "queue_full"


class WaitedTooLong(Unavailable):
    """No model server behind this gateway became free in the time this request may wait. Nothing was charged."""

    code = "queue_timeout"
    retry_after_s = 2


class StoreUnavailable(Unavailable):
    """The gateway's database does not answer. Calls go on; keys cannot be read or changed. Try again shortly."""

    code = "store_unavailable"


class SchemaMissing(StoreUnavailable):
    """The gateway's database has no schema yet: its operator has to run `llm-gateway migrate`."""

    code = "schema_missing"


class Overloaded(Unavailable):
    """This replica runs as many calls as it can. Nothing was charged; try again shortly."""

    code = "overloaded"
    retry_after_s = 2


class Draining(Unavailable):
    """This replica is shutting down. Try again: another one will answer."""

    code = "draining"
    retry_after_s = 1


class LeaseLost(Unavailable):
    """This replica was out of touch with the limits for so long that the call was taken for dead, settled and ended."""

    code = "lease_lost"
    retry_after_s = 1


class CallAbandoned(GatewayError):
    """The client left before the answer was complete."""

    status, code = 499, "client_gone"


class ReplicaLost(GatewayError):
    """The replica that served this call died; its lease was settled with the last count it had reported."""

    status, code = 500, "replica_lost"
