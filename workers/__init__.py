"""Redis stream and Postgres: usage rows, leases of the dead, what replicas read. Never imports gateway.web."""
