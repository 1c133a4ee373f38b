"""OpenTelemetry's conventions for generative AI, as far as they go: what operations are called, and which buckets their
metrics have (https://opentelemetry.io/docs/specs/semconv/gen-ai/). A dot is an underscore in Prometheus.
"""

from gateway.core.call import Call

OPERATIONS = {"/api/chat": "chat", "/api/generate": "text_completion", "/api/embed": "embeddings"}
"""by what is asked of the backend, whatever API the client speaks"""
PROVIDER = "ollama"
OTHER = "other"
"""a model that the fleet does not have, or has no more"""

TOKENS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
FIRST_TOKEN_SECONDS = (
    0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300,
)  # fmt: skip
"""with five more than advised: here a first token may have to wait for a slot and for a model to be loaded"""
OUTPUT_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
REQUEST_SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
)  # fmt: skip
"""with three more than advised, for the same reason"""


def operation(call: Call) -> str:
    """What the call does, as the conventions name it."""
    return OPERATIONS.get(call.upstream.path, OTHER)
