"""DATA_DIR: the one place where `up` keeps state, secrets and logs, and the lock that keeps a second `up` out of it."""

import fcntl
import os
from pathlib import Path

from gateway.dev.places import CannotStart, PlaceUnusable, private_dir

ADMIN_SECRET, DEMO_KEY = "admin-secret", "demo-key"
SECRET_CHARS_MAX = 512
LOG_BYTES_MAX = 10_000_000


class AlreadyRunning(CannotStart):
    """Another `up` holds this DATA_DIR. `pid` and `url` are its own, empty while it starts."""

    def __init__(self, pid: str, url: str) -> None:
        where = f" at {url}" if url else ""
        super().__init__(f"the gateway runs already{where} (process {pid or 'unknown'})")
        self.pid = pid
        self.url = url


class Home:
    """One DATA_DIR. Everything in it is for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock_path = self.path / "lock"
        self._lock: int | None = None

    def open(self) -> None:
        """Make it, if need be, and take the lock, which ends with this process. Raises `AlreadyRunning`."""
        if self.path.is_dir() and not self._lock_path.exists() and any(self.path.iterdir()):
            raise PlaceUnusable(f"DATA_DIR {self.path} holds other things: choose a new or an empty directory")
        private_dir(self.path)
        self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise AlreadyRunning(*self._holder()[:2]) from None
        self.announce("")

    def announce(self, url: str, admin_url: str = "") -> None:
        """Tell a second `up`, and the other commands, who runs here and where. `admin_url`: where not at `url`."""
        assert self._lock is not None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n{url}\n{admin_url}\n".encode(), 0)

    def running_admin_url(self) -> str:
        """Where the admin API of this DATA_DIR's gateway answers; empty when none runs."""
        try:
            lock = os.open(self._lock_path, os.O_RDONLY)
        except OSError:
            return ""
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            _, url, admin_url = self._holder()
            return admin_url or url
        finally:
            os.close(lock)
        return ""

    def close(self) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def secret(self, name: str) -> str:
        """A saved secret; empty when there is none."""
        try:
            return (self.path / name).read_text("utf-8")[:SECRET_CHARS_MAX].strip()
        except OSError:
            return ""

    def keep_secret(self, name: str, text: str) -> None:
        """Save a secret with mode 600, whole or not at all."""
        unfinished = self.path / f"{name}.unfinished"
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path / name)

    def log(self, name: str) -> Path:
        """Where a server's output goes. One that has grown large is set aside, and replaces the one before."""
        path = private_dir(self.path / "logs") / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        return path

    def _holder(self) -> tuple[str, str, str]:
        lines = [*self._lock_path.read_text("utf-8").split("\n"), "", "", ""]
        return lines[0], lines[1], lines[2]
