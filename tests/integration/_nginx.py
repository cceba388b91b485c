"""How does a real web server come to be on this machine, for the time of a test run?

nginx, a child of this process, on free ports of 127.0.0.1, with its own configuration and everything that it writes in
one temporary directory. It has the parent-death signal, so it doesn't stay behind even when the test run is killed.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(os.environ.get("TEST_NGINX_ROOT", "/")) / "usr/sbin/nginx"
USER, PASSWORD = "ada", "correct horse"

_CONFIG = """\
daemon off;
worker_processes 1;
{user}
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format asked "$request_method $status $body_bytes_sent $request_uri $http_range";
    access_log {directory}/access.log asked;
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl;
        ssl_certificate {directory}/cert;
        ssl_certificate_key {directory}/key;
        location / {{ alias {data}/; }}
        location /slow/ {{ alias {data}/; limit_rate 4m; }}
        location /slow/timed/ {{ alias {data}/; limit_rate 4m; etag off; }}
        location /timed/ {{ alias {data}/; etag off; }}
        location /unnamed/ {{ alias {data}/; etag off; add_header Last-Modified ""; }}
        location /whole/ {{ alias {data}/; max_ranges 0; }}
        location /compressing/ {{ alias {data}/; gzip on; gzip_types *; gzip_min_length 1; }}
        location /compressed/ {{ alias {data}/; gzip_static always; }}
        location /chunked/ {{ alias {data}/; sub_filter_types *; sub_filter "never there" ""; }}
        location /private/ {{ alias {data}/; auth_basic "x"; auth_basic_user_file {directory}/users; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /private/$1 redirect; }}
        location /elsewhere/ {{ rewrite ^/elsewhere/(.*)$ http://localhost:{http}/private/$1 permanent; }}
        location /signed/ {{
            alias {data}/;
            if ($request_method != GET) {{ return 403; }}
            if ($arg_signature != "right/+=") {{ return 403; }}
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class WebServer:
    """A running nginx, which serves the files of a directory in several ways.

    Args:
        url: it; what stands before a file's name says how it is served.
        https_url: the same with TLS.
        authority: the certificate to be trusted.
        data: the files.
        access_log: method, status, bytes sent, target and range of each request.
    """

    url: str
    https_url: str
    authority: Path
    data: Path
    access_log: Path

    def put(self, name: str, content: bytes, *, modified_at: float | None = None) -> None:
        """Put a file there in one step, and its compressed form beside it."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for place, data in ((path, content), (path.with_name(f"{path.name}.gz"), gzip.compress(content, 1))):
            beside = place.with_name(f"{place.name}.new")
            beside.write_bytes(data)
            if modified_at is not None:
                os.utime(beside, (modified_at, modified_at))
            beside.replace(place)

    def asked(self) -> list[list[str]]:
        """Give what was asked so far: method, status, bytes sent, target, range."""
        return [line.split(" ") for line in self.access_log.read_text().splitlines()]


@contextlib.contextmanager
def running_nginx() -> Iterator[WebServer]:
    """Start an nginx; stop it and remove its directory at the end."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        directory = Path(name)
        data = directory / "data"
        data.mkdir()
        _make_certificate(directory)
        (directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            http, https = one.getsockname()[1], other.getsockname()[1]
        user = "user root;" if os.geteuid() == 0 else ""  # the directory is the user's own
        (directory / "conf").write_text(
            _CONFIG.format(directory=directory, data=data, http=http, https=https, user=user)
        )
        command = [str(PROGRAM), "-c", str(directory / "conf"), "-e", str(directory / "error.log")]
        child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL)
        try:
            _wait_for(http, child, directory / "error.log")
            url = f"http://127.0.0.1:{http}"
            yield WebServer(url, f"https://127.0.0.1:{https}", directory / "cert", data, directory / "access.log")
        finally:
            child.terminate()
            child.wait()


def _make_certificate(directory: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(directory / "key"), "-out", str(directory / "cert")]
    subprocess.run(command, check=True, capture_output=True)


def _wait_for(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"nginx didn't start: {log.read_text() if log.exists() else child.returncode}")
