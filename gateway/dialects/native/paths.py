"""What looks like a file's path in the texts of a node, for its paths are not the clients' to know.

Rather one word too many than one path: these texts are read by people. Closing tags such as `</think>` and `[/INST]`,
the addresses of the web, `org/name` and `n/a` are none.
"""

import re
from typing import Any

_WEB = re.compile(r"https?://[\w.-]+(?::\d+)?(?:/[\w.~%+@/?#=&-]*)?", re.IGNORECASE | re.ASCII)
# a backslash that is not one of the escapes in which Ollama writes the text of a parameter, such as "Q:\n"
_BACK = r"\\(?![nrt](?:\W|$))"
_PATH = re.compile(
    "|".join([
        r"file:[\\/]",
        rf"(?<![^\W_])[a-z]:(?:/|{_BACK})",  # C:\x, C:/x
        rf"(?<![\w.])\.{{1,2}}(?:/|{_BACK})",  # ./x, ..\x
        r"\\\\[\w.$?]",  # \\host\share
        r"(?<!\w)~\w*[\\/]",  # ~/x, ~me/x
        r"\$\{?\w+\}?[\\/]|%\w+%[\\/]",  # $HOME/x, %TEMP%\x
        r"(?<![\w<\[{|/])/+[\w.~$@-]",  # /x
        r"[<\[{|]/+[^\s/<>\[\]{}|]+/",  # [/x/y, which no closing tag is
        r"/(?:root|home|users|mnt|media|opt|usr|var|tmp|srv|etc|volumes)/",
        r"[\\/]\.ollama\b|\.ollama[\\/]|\bblobs[\\/]",
    ]),
    re.IGNORECASE,
)  # fmt: skip
_NOTHING_ELSE = re.compile(
    r"""["']?(?:file:/*|[a-z]:)?(?:\.{1,2}|~\w*)?(?:"""
    r"""(?:[\\/]+[^\s\\/{}<>|]+){2,}[\\/]*"""  # /x/y
    r"""|(?:[\\/]+[^\n\\/{}<>|]+)+\.\w{1,12})["']?""",  # /x y.gguf
    re.IGNORECASE,
)
_START = r"file:[\\/]|[a-z]:[\\/]|\.{1,2}[\\/]|~\w*[\\/]|\\\\|\$\w+[\\/]|\$\{\w+\}[\\/]|%\w+%[\\/]"
_MARKED = re.compile(rf"""["']?(?:{_START})[^{{}}<>|]*""", re.IGNORECASE)


def has_path(text: str) -> bool:
    """Whether something in it looks like a path."""
    return _PATH.search(_WEB.sub("", text)) is not None


def without(value: Any) -> Any:
    """A JSON value without the strings that hold a path, at any depth; None for such a string itself."""
    if isinstance(value, dict):
        return {
            name: without(part)
            for name, part in value.items()
            if not has_path(name) and not (isinstance(part, str) and has_path(part))
        }
    if isinstance(value, list):
        return [without(part) for part in value if not (isinstance(part, str) and has_path(part))]
    return None if isinstance(value, str) and has_path(value) else value


def without_lines(text: str) -> str:
    """A text of one setting a line, without the lines that hold a path."""
    return "".join(line for line in text.splitlines(keepends=True) if not has_path(line))


def without_bare_lines(text: str) -> str:
    """A text in which a slash may mean anything, without the lines that are nothing but a path."""
    return "".join(line for line in text.splitlines(keepends=True) if not _is_path(line.strip()))


def _is_path(line: str) -> bool:
    return (_NOTHING_ELSE.fullmatch(line) or _MARKED.fullmatch(line)) is not None
