"""As whom Postgres runs, which refuses root."""

import os
import pwd
import subprocess
from pathlib import Path

TRY_WAIT_S = 5.0


def owner_for(data: Path) -> int | None:
    """The user a cluster at `data` belongs to, when this process is root: the one it has, or `nobody`. Else None."""
    if os.geteuid() != 0:
        return None
    owner = data.stat().st_uid if data.exists() else 0
    return owner or pwd.getpwnam("nobody").pw_uid


def as_user(uid: int) -> list[str]:
    """What to put before a command so that it runs as `uid`, yet may pass closed directories; empty if not possible.

    The securebit is there because Postgres looks for its own files with access(2), which counts the capability of a
    user other than root only with that bit set. Becoming another user forgets the signal for a parent's death, so it
    is asked for again.
    """
    setpriv = [
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--pdeathsig=INT", "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup", "--",
    ]  # fmt: skip
    try:
        tried = subprocess.run([*setpriv, "true"], capture_output=True, timeout=TRY_WAIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return setpriv if tried.returncode == 0 else []
