"""How uvicorn is told to speak, on the ports of replicas and of workers alike: HTTP and nothing else, and few words."""

from typing import Any

KEEPALIVE_S = 75
"""longer than balancers keep their connections, so that it is they who close them"""


def options() -> dict[str, Any]:
    """For `uvicorn.Config`. What it logs goes to the loggers of the process."""
    return {
        "http": "httptools",
        "ws": "none",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEPALIVE_S,
    }
