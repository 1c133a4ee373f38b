"""The secrets of a test, made as an operator makes them: by deploy/make-secrets."""

import shutil
import subprocess
from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"
SCRIPT = DEPLOY / "make-secrets"
RUN_S_MAX = 30.0
SHELL = shutil.which("dash") or "sh"


def run(directory: Path | None, script: Path = SCRIPT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it by the strictest shell that is here. Without a directory it chooses one itself."""
    return subprocess.run(
        [SHELL, str(script), *([str(directory)] if directory else [])],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"} | env,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )


def made(directory: Path, **env: str) -> dict[str, str]:
    """Each secret by the name of its file."""
    done = run(directory, **env)
    assert done.returncode == 0, done.stderr
    return read(directory)


def read(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}
