"""The models the fake Ollama has.

Names, sizes and capabilities are those of the recorded exchanges. As there (and as with the real one), the list at
/api/tags and the model itself need not agree on capabilities: `listed` is the list's, `capabilities` the truth.
"""

from typing import Any

from msgspec import Struct


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
    license: str = ""
    settings: str = ""
    system: str = ""
    remote_host: str = ""
    """where a stub passes its prompts on to"""

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
        "Apache License 2.0", 'temperature    0.6\nstop    "<|im_end|>"', "You are the house assistant.",
    ),
)  # fmt: skip
