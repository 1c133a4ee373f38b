"""The root of the tree."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

MESSAGE_CHARS_MAX = 600
"""an error repeats little of the request that caused it"""
Blame = Literal["", "node", "model"]
"""whom a failure is held against: nobody, a whole node, or one model of it"""


class GatewayError(Exception):
    """The gateway failed in a way nobody planned for. Its operator finds it in the log."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retry_after_s: int | None = None
    """Whole seconds, rounded up, after which the same request can succeed; None where waiting does not help."""
    levels: Any = None
    """`core.call.Levels` of the key, where a limit's verdict came with them"""

    elsewhere: bool = False
    """whether the same request may succeed on another backend, as long as nothing of an answer was sent"""
    blames: Blame = ""
    """what the breakers count it for"""
    param: str | None = None
    """the field of the request that is to blame, where it is one"""

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_s: int | None = None,
        elsewhere: bool | None = None,
        blames: Blame | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__((message or " ".join((type(self).__doc__ or "").split()))[:MESSAGE_CHARS_MAX])
        self.param = param
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        if elsewhere is not None:
            self.elsewhere = elsewhere
        if blames is not None:
            self.blames = blames

    @property
    def message(self) -> str:
        return str(self.args[0])


def every_error(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """The whole tree, depth first, `root` included. For tables, documents and the tests that compare them."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
