"""A setting's value out of a file of its own, as containers and systemd hand secrets over."""

import stat
from pathlib import Path

BYTES_MAX = 16_384
"""More than any address or secret needs: the file is not meant."""


class SecretFileUnusable(Exception):
    """The file gives no value. The text says why; it never holds the file's content, nor its name, which somebody may
    have confused with the secret itself."""


def read(name: str) -> str:
    """The one line of the file called `name`, without the line's end. Raises `SecretFileUnusable`."""
    try:
        text = _content(Path(name)).decode("utf-8-sig")
    except FileNotFoundError:
        raise SecretFileUnusable("there is no such file") from None
    except ValueError:  # not UTF-8, or a name with a NUL in it
        raise SecretFileUnusable("the file cannot be read as UTF-8 text") from None
    except OSError as error:
        raise SecretFileUnusable(f"the file cannot be read ({error.strerror})") from None
    lines = text.strip().splitlines()
    if len(lines) != 1:
        raise SecretFileUnusable("the file has more than one line" if lines else "the file is empty")
    return lines[0]


def _content(path: Path) -> bytes:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise SecretFileUnusable("it is a directory: Docker makes one where a mounted file is missing")
    if not stat.S_ISREG(mode):
        raise SecretFileUnusable("it is no ordinary file")
    with path.open("rb") as file:
        content = file.read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise SecretFileUnusable(f"the file has more than {BYTES_MAX} bytes")
    return content
