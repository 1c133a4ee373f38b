"""Ollama's own API, as clients speak it: chat, generate, embed, show, pull."""
