"""The yardstick: nginx as a plain proxy, one worker. And nginx as a node, where one in Python would hold it back."""

import os
import shutil
import signal
from pathlib import Path

from gateway.dev.process import Child
from tests.bench import answers
from tests.bench.answers import format_of
from tests.bench.load import Address

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONNECTIONS = 16_384
KEPT_CONNECTIONS = 1_024
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_MAIN = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections {connections}; }}
http {{
    {temporary}
    access_log {access_log};
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_max_body_size 16m;
    client_body_buffer_size 128k;
{servers}
}}
"""
_PROXY = """
    upstream node{port} {{ server {host}:{node_port}; keepalive {kept}; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://node{port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_buffer_size 64k;
            proxy_buffers 8 64k;
        }}
    }}
"""
_NODE = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type application/json;
        location = /api/tags {{ return 200 '{tags}'; }}
        location = /api/ps {{ return 200 '{loaded}'; }}
        location = /api/show {{ return 200 '{shown}'; }}
        location = /api/version {{ return 200 '{{"version":"0.12.6"}}'; }}
        location = /api/chat {{ return 200 '{chat}'; }}
        location = /v1/chat/completions {{ return 200 '{openai}'; }}
    }}
"""


def proxy(port: int, node: Address) -> str:
    """A server that passes everything on to `node`, keeps its connections and holds nothing back."""
    return _PROXY.format(port=port, host=node[0], node_port=node[1], kept=KEPT_CONNECTIONS)


def node(port: int, model: str) -> str:
    """A server that is a node with one model, which does not stream."""
    return _NODE.format(
        port=port,
        tags=answers.tags([model]).decode(),
        loaded=answers.loaded([model]).decode(),
        shown=answers.shown(model).decode(),
        chat=format_of(b"/api/chat", model).whole.decode(),
        openai=format_of(b"/v1/chat/completions", model).whole.decode(),
    )


def child(name: str, directory: Path, servers: list[str], *, access_log: bool, files: int) -> Child:
    """nginx with these servers, on files of its own."""
    directory.mkdir()
    config = directory / "nginx.conf"
    config.write_text(
        _MAIN.format(
            directory=directory,
            user="user root;" if os.geteuid() == 0 else "",
            files=files,
            connections=min(CONNECTIONS, files - 64),
            temporary="\n    ".join(f"{kind}_temp_path {directory}/{kind};" for kind in _TEMPORARY),
            access_log=f"{directory}/access.log" if access_log else "off",
            servers="".join(servers),
        )
    )
    argv = [str(PROGRAM), "-p", str(directory), "-c", str(config), "-e", str(directory / "error.log")]
    return Child(name, argv, log=directory / "output.log", death_signal=signal.SIGTERM)  # it ends its worker then
