"""The models the fake Ollama has, and what it says of them: /api/tags, /api/ps, /api/show.

Names, sizes and capabilities are those of the recorded exchanges. As there (and as with the real one), the list at
/api/tags and the model itself need not agree on capabilities: `listed` is the list's, `capabilities` the truth.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from gateway.core.names import canonical

KEEP_ALIVE_S = 300.0
CONTEXT_TOKENS = 8_192
FOREVER_S = 292.0 * 365 * 86_400
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Model(Struct, frozen=True):
    """One model. `name` is canonical."""

    name: str
    family: str
    parameters: str
    quantization: str
    size: int
    digest: str
    context_tokens: int
    embedding_length: int
    listed: tuple[str, ...]
    capabilities: tuple[str, ...]

    @property
    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameters,
            "quantization_level": self.quantization,
        }


MODELS = (
    Model(
        "qwen3-vl:8b", "qwen3vl", "8.8B", "Q4_K_M", 6140394873,
        "542adf8c0648211a15452aaffba82a351efd128c1f0a9566617a33ccff5431e6", 262144, 4096,
        ("completion", "vision", "tools", "thinking"), ("completion", "vision", "tools", "thinking"),
    ),
    Model(
        "llama3.2:3b", "llama", "3.2B", "Q4_K_M", 2019393189,
        "19440ca38787eab5bcb2dc852979f951ee2b720055e52d6ddd9fe39520ea7cd2", 131072, 3072,
        ("completion", "tools"), ("completion",),
    ),
    Model(
        "nomic-embed-text:latest", "nomic-bert", "137M", "F16", 274302450,
        "24f062c5c348013e64c2ea41abec08ebd7988e777aff7e92b9727557e9c4485b", 2048, 768,
        ("embedding",), ("embedding",),
    ),
    Model(
        "qwen3:8b", "qwen3", "8.2B", "Q4_K_M", 5225388164,
        "290ef0e91f15b3847465f83623c38e64ebee08ecaccc8985b4533fc056884cb9", 40960, 4096,
        ("completion", "tools", "thinking"), ("completion", "tools", "thinking"),
    ),
)  # fmt: skip


class Shelf:
    """Which models a node has on disk and in memory."""

    def __init__(self, models: tuple[Model, ...] = MODELS) -> None:
        self.models = {model.name: model for model in models}
        self._loaded: dict[str, tuple[datetime, int]] = {}
        self._since = datetime.now(UTC)

    def find(self, name: str) -> Model | None:
        return self.models.get(canonical(name) or "")

    def load(self, model: Model, keep_alive: Any = None, context_tokens: int | None = None) -> None:
        """It is in memory now, until `keep_alive` (seconds, or a Go duration; negative: for ever) has passed."""
        until = datetime.now(UTC) + timedelta(seconds=keep_alive_s(keep_alive))
        _, context = self._loaded.get(model.name, (until, CONTEXT_TOKENS))
        self._loaded[model.name] = (until, context_tokens or context)

    def unload(self, model: Model) -> None:
        self._loaded.pop(model.name, None)

    @property
    def loaded(self) -> list[str]:
        now = datetime.now(UTC)
        return [name for name, (until, _) in self._loaded.items() if until > now]

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
        }

    def ps(self) -> dict[str, Any]:
        """Latest expiry first."""
        names = sorted(self.loaded, key=lambda name: self._loaded[name][0], reverse=True)
        return {"models": [self._process(self.models[name], *self._loaded[name]) for name in names]}

    def _process(self, model: Model, until: datetime, context: int) -> dict[str, Any]:
        size = model.size + 168_000 * context
        return {
            "name": model.name,
            "model": model.name,
            "size": size,
            "digest": model.digest,
            "details": model.details,
            "expires_at": stamp(until),
            "size_vram": size,
            "context_length": context,
        }

    def show(self, model: Model) -> dict[str, Any]:
        info = {
            "general.architecture": model.family,
            f"{model.family}.context_length": model.context_tokens,
            f"{model.family}.embedding_length": model.embedding_length,
        }
        return {
            "modelfile": f"FROM {model.name}\nTEMPLATE {{{{ .Prompt }}}}\n",
            "template": "{% for m in messages %}{{ m.content }}{% endfor %}",
            "details": model.details,
            "model_info": info,
            "tensors": [],
            "capabilities": list(model.capabilities),
            "modified_at": stamp(self._since),
        }


def keep_alive_s(value: Any) -> float:
    """Seconds in a keep_alive: a number, or a Go duration with one unit. Raises ValueError as Ollama's 400 says."""
    if value is None:
        return KEEP_ALIVE_S
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = _duration_s(str(value))
    return FOREVER_S if seconds < 0 else min(seconds, FOREVER_S)


def _duration_s(text: str) -> float:
    if text in {"0", "-0"}:
        return 0.0
    number = text.rstrip("hms")
    try:
        return float(number) * _SECONDS[text[len(number) :]]
    except (ValueError, KeyError):
        raise ValueError(f'time: missing unit in duration "{text}"') from None


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, as Go writes it."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
