"""Postgres: the truth about keys, and what operators may do with it."""
