"""A clean clone: what is committed, and what would be, of this working tree."""

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAND_INS = {"python", "redis", "postgres", "caddy"}
LEFT_BEHIND = "deploy-test-left-this-behind"
"""in files that a working directory may hold and an image must not"""


def clone(to: Path) -> Path:
    """A copy of the tree without anything that git ignores; with a `.env` and a repository's folder to trip over."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():  # one that is deleted is still listed
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    for name in (".env.former", ".git/config", "gateway/.env", "tests/notes"):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_text(LEFT_BEHIND, "ascii")
    return to


def image_names(tree: Path) -> list[str]:
    """The images of others that the build and the services without a profile start from."""
    texts = ((tree / "Containerfile").read_text("utf-8"), (tree / "compose.yaml").read_text("utf-8"))
    named = re.findall(r"^FROM (\S+)|^ +image: ([\w./-]+:[\w.-]+)$", "\n".join(texts), re.MULTILINE)
    names = sorted({"".join(pair) for pair in named})
    return [name for name in names if name.partition(":")[0] in STAND_INS]
