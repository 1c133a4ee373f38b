"""What the gates call good, and how much they ask to find out."""

from msgspec import Struct


class Bounds(Struct, frozen=True, kw_only=True):
    """Those of a run; tests have their own."""

    requests: int = 1_000
    """small ones, before anything is said of them"""
    answer_s: float = 60.0
    """for all that is asked to be answered: what takes longer has failed"""
    clients: int = 32
    opened_share_max: float = 0.01
    """connections to nodes opened for each request, beyond one for each client"""
    opened_spare: int = 4
    """more of them, for asking the node and for probing it"""
    pieces: int = 5
    pieces_gap_ms: int = 200
    held_ms_max: float = 100.0
    """on its way: half of the time until the next one comes"""
    tries: int = 3
    """before a piece is late: what a gateway holds it holds each time, what others do on its core comes and goes"""
    leavers: int = 50
    leave_s_max: float = 1.0
    leave_wait_s: float = 5.0
    """before those that are still open are given up"""
    streams: int = 500
    flat_clients: int = 8
    flat_ratio_max: float = 1.5

    @property
    def held_back(self) -> str:
        """The model whose stream has these pieces."""
        return f"n{self.pieces}d{self.pieces_gap_ms}"
