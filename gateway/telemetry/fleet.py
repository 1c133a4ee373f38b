"""What becomes of the backends, as metrics and log lines. Keeps `ports.FleetObserver`."""

from gateway.core import advisories
from gateway.core.routing import Backend
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics


class BackendObserver:
    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log
        self._versions: dict[str, str] = {}
        self._drained: dict[str, bool] = {}
        """of those that get no new calls, whether their last one has ended"""

    def changed(self, backend: Backend) -> None:
        """A backend is another one than before; warns once of a version with known holes."""
        self._drains(backend)
        if backend.version and self._versions.get(backend.name) != backend.version:
            self._versions[backend.name] = backend.version
            for warning in advisories.warnings(backend.version):
                self._log.warning("backend_version", backend=backend.name, version=backend.version, warning=warning)

    def placed(self, backend: str, model: str, waited_ms: int, *, cached: bool) -> None:
        self._metrics.wait_seconds.observe(waited_ms / 1000, model)
        self._metrics.affinity.count(str(cached).lower())

    def retried(self, code: str) -> None:
        self._metrics.retries.count(code)
        self._log.info("retried", code=code)

    def ejected(self, backend: str, model: str, seconds: float) -> None:
        self._metrics.ejections.count(backend, model)
        self._log.warning("ejected", backend=backend, model=model, seconds=seconds)

    def returned(self, backend: str, model: str) -> None:
        self._log.info("returned", backend=backend, model=model)

    def recycled(self, backend: str, model: str) -> None:
        self._metrics.recycled.count(backend, model)
        self._log.warning("recycled", backend=backend, model=model)

    def _drains(self, backend: Backend) -> None:
        """Says once that a backend gets no new calls, and once that it has none any more."""
        if not backend.draining:
            self._drained.pop(backend.name, None)
            return
        if backend.name not in self._drained:
            self._drained[backend.name] = False
            self._log.info("draining", backend=backend.name, busy=backend.busy)
        if not backend.busy and not self._drained[backend.name]:
            self._drained[backend.name] = True
            self._log.info("drained", backend=backend.name)
