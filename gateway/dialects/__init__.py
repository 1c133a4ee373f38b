"""Bytes to meaning and back. `ollama` is the hub; every other dialect turns its requests into the hub's and back."""
