"""Ollama: one exchange with one backend, the prober, the pool."""
