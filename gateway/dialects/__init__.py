"""Bytes to meaning and back, hub and spokes. Nothing here waits, reads a clock or knows a socket.

ollama.py      the hub: requests and answers of Ollama's native API; ollama_faults.py: what its refusals mean
openai/        spokes: a module each turns requests into the hub's (`parse`) and the hub's answer back (a `Renderer`)
anthropic/
native/        Ollama's own API, as clients speak it
plain.py       /v1/generate and its relatives
asked.py       what every spoke makes of a request, and what a renderer is
extension.py   Ollama's own fields in the other APIs; options.py: its `options`; policy.py: the operator's bounds
tools.py       functions a model may call; forced.py: those it must call; stops.py: stop sequences of our own
frames.py      NDJSON lines in, server-sent events out
"""
