"""Which models a fake node has on disk and in memory, and what it says of them: /api/tags, /api/ps, /api/show."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from gateway.core.names import canonical
from gateway.dev.fake_memory import Memory
from gateway.dev.fake_models import MODELS, Model
from gateway.dev.fake_runner import Runner, fit_of
from gateway.dev.fake_times import stamp

CONTEXT_BYTES_A_TOKEN = 168_000
BLOBS = "/root/.ollama/models/blobs/"
"""what a gateway must tell nobody"""
_TEXT = ("completion",)


class Shelf:
    """The models of one node."""

    def __init__(self, memory: Memory, models: tuple[Model, ...] = MODELS) -> None:
        self.version = memory.hardware.version
        self.models = {model.name: model for model in models}
        self._memory = memory
        self._since = datetime.now(UTC)

    def find(self, name: str) -> Model | None:
        return self.models.get(canonical(name) or "")

    def add(self, name: str) -> None:
        """A model that was pulled: a small one that makes text."""
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.models[name] = Model(name, "llama", "1B", "Q4_K_M", 10**9, digest, 8_192, 2_048, _TEXT, _TEXT)

    def load(self, model: Model, keep_alive: Any = None, context_tokens: int | None = None) -> None:
        """It is in memory now, until `keep_alive` (seconds, or a Go duration; negative: for ever) has passed."""
        self._memory.put(model, keep_alive, fit_of(model, {"options": {"num_ctx": context_tokens}}))

    def unload(self, model: Model) -> None:
        self._memory.unload(model)

    @property
    def loaded(self) -> list[str]:
        return [runner.model.name for runner in self._memory.runners]

    def tags(self) -> dict[str, Any]:
        return {"models": [self._tag(model) for model in self.models.values()]}

    def _tag(self, model: Model) -> dict[str, Any]:
        sizes = {"context_length": model.context_tokens, "embedding_length": model.embedding_length}
        return {
            "name": model.name,
            "model": model.name,
            "modified_at": stamp(self._since),
            "size": model.size,
            "digest": model.digest,
            "details": model.details | sizes,
            "capabilities": list(model.listed),
        } | ({"remote_host": model.remote_host} if model.remote_host else {})

    def ps(self) -> dict[str, Any]:
        """Latest expiry first."""
        return {"models": [self._process(runner) for runner in self._memory.runners]}

    def _process(self, runner: Runner) -> dict[str, Any]:
        model, context = runner.model, runner.fit.context_tokens
        size = model.size + CONTEXT_BYTES_A_TOKEN * context
        return {
            "name": model.name,
            "model": model.name,
            "size": size,
            "digest": model.digest,
            "details": model.details,
            "expires_at": stamp(runner.until),
            "size_vram": size,
            "context_length": context,
        }

    def show(self, model: Model) -> dict[str, Any]:
        info = {
            "general.architecture": model.family,
            f"{model.family}.context_length": model.context_tokens,
            f"{model.family}.embedding_length": model.embedding_length,
        }
        said = {
            "license": model.license,
            "modelfile": f"# FROM {model.name}\n\nFROM {BLOBS}sha256-{model.digest}\nTEMPLATE {{{{ .Prompt }}}}\n",
            "parameters": model.settings,
            "template": "{% for m in messages %}{{ m.content }}{% endfor %}",
            "system": model.system,
        }
        return {name: text for name, text in said.items() if text} | {
            "details": model.details,
            "model_info": info,
            "tensors": [{"name": "token_embd.weight", "type": "F32", "shape": [32]}],
            "capabilities": list(model.capabilities),
            "modified_at": stamp(self._since),
        }
