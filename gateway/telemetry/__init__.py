"""Metrics and logs. Never a key, a prompt or a completion."""
