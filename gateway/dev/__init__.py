"""The development world: embedded servers, a fake Ollama. Tests import the same modules."""
