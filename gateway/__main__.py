"""`python -m gateway` is `llm-gateway`."""

from gateway.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
