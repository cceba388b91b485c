"""What answers during a benchmark? nginx as a static S3 stand-in, on free ports of 127.0.0.1, with its own config.

nginx serves the objects of a directory from the page cache, `/bucket/key`, with ranges, strong ETags, `If-Match` and
`If-None-Match`. It checks no signature. Where S3 would send an object's CRC-64/NVME, so does it. `ListObjectsV2` is
answered by `_lister.py` behind it. The distant ones wait before each first byte (http-echo) and send so much a second
on each connection (`limit_rate`).

Each process is ended by its id, and has the parent-death signal for the case that this one is killed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BUCKET = "bench"
FAR_SECONDS = 0.030
FAR_BYTES_PER_SECOND = 60_000_000
LATENCIES_MS = (0, 10, 30, 100)

_NGINX_ROOT = Path(os.environ.get("BENCH_NGINX_ROOT", "/"))
_NGINX = _NGINX_ROOT / "usr/sbin/nginx"
_ECHO_MODULE = _NGINX_ROOT / "usr/lib/nginx/modules/ngx_http_echo_module.so"

_CONFIG = """\
load_module {echo_module};
daemon off;
worker_processes 2;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 10000000;
    keepalive_timeout 300s;
    open_file_cache max={open_files};
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    root {data};
    map_hash_max_size 1048576;
    map_hash_bucket_size 256;
    # A part of an object has no checksum: S3 sends it where the answer is the whole object.
    map $uri $checksum_of_any_answer {{ include {directory}/small.map; }}
    map $uri $checksum_of_whole_answer {{ include {directory}/large.map; }}
    map $http_range $checksum_of_unranged {{ "" $checksum_of_whole_answer; }}
    map "$checksum_of_any_answer$checksum_of_unranged" $checksum_type {{ "~." FULL_OBJECT; }}
    add_header x-amz-checksum-crc64nvme $checksum_of_any_answer$checksum_of_unranged;
    add_header x-amz-checksum-type $checksum_type;
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl;
        ssl_certificate {directory}/server.pem;
        ssl_certificate_key {directory}/server.key;
        ssl_session_cache shared:tls:1m;
        location / {{ if ($args ~ "list-type=2") {{ proxy_pass http://127.0.0.1:{lister}; }} }}
    }}
    log_format bytes "$request_method $status $body_bytes_sent $http_range";
    server {{
        listen 127.0.0.1:{logged};
        access_log {directory}/access.log bytes;
    }}
{distant}
}}
"""
_DISTANT = """\
    server {{
        listen 127.0.0.1:{port};
        location / {{ echo_sleep {seconds}; echo_exec @served; }}
        location @served {{
            {rate}
            if ($args ~ "list-type=2") {{ proxy_pass http://127.0.0.1:{lister}; }}
        }}
    }}
"""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the servers are.

    Args:
        urls: `"http"`, `"https"`, `"far"`; `"latency-30"` and the like, without a limit of rate; `"logged"`.
        environment: who may ask, and whom to trust, in the names that S3 clients read.
        access_log: what `"logged"` was asked: method, status, bytes of the body sent, range.
    """

    urls: Mapping[str, str]
    environment: Mapping[str, str]
    access_log: Path


@contextlib.contextmanager
def running_nginx(data: Path, checksums: Mapping[str, tuple[int, str]]) -> Iterator[Endpoints]:
    """Serve `data/<bucket>/<key>`; stop at the end.

    Args:
        data: what to serve; a directory `nginx` beside it is made for the server's own files.
        checksums: URL path → size in bytes and base64 CRC-64/NVME.
    """
    if not _NGINX.exists() or not _ECHO_MODULE.exists():
        sys.exit(f"{_NGINX} and {_ECHO_MODULE} are needed: `nox -s bench` brings Debian's")
    directory = data.parent / "nginx"
    directory.mkdir()
    for name, is_small in (("small", True), ("large", False)):
        lines = [f'"{path}" "{crc}";\n' for path, (size, crc) in checksums.items() if (size <= 8 << 20) is is_small]
        (directory / f"{name}.map").write_text("".join(lines))
    _make_certificate(directory)
    kinds = ["http", "https", "lister", "logged", "far", *(f"latency-{ms}" for ms in LATENCIES_MS)]
    ports = dict(zip(kinds, _free_ports(len(kinds)), strict=True))
    far = f"limit_rate {FAR_BYTES_PER_SECOND}; sendfile_max_chunk 512k;"
    distant = [(ports["far"], FAR_SECONDS, far), *((ports[f"latency-{ms}"], ms / 1e3, "") for ms in LATENCIES_MS)]
    config = _CONFIG.format(
        directory=directory,
        data=data,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2,  # the other half is for connections
        echo_module=_ECHO_MODULE,
        user="user root;" if os.geteuid() == 0 else "",  # the directory is the user's own
        distant="".join(
            _DISTANT.format(port=port, seconds=seconds, rate=rate, lister=ports["lister"])
            for port, seconds, rate in distant
        ),
        **{kind: ports[kind] for kind in ("http", "https", "lister", "logged")},
    )
    (directory / "nginx.conf").write_text(config)
    lister = [sys.executable, str(Path(__file__).with_name("_lister.py")), str(data), str(ports["lister"])]
    server = [str(_NGINX), "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")]
    with contextlib.ExitStack() as stack:
        for command, awaited in ((lister, ("lister",)), (server, tuple(set(ports) - {"lister"}))):
            child = _start(command)
            stack.callback(_end, child)
            for kind in awaited:
                _wait_for(ports[kind], child)
        environment = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "testtest",
            "AWS_CA_BUNDLE": str(directory / "ca.pem"),
            "SSL_CERT_FILE": str(directory / "ca.pem"),
            "CURL_CA_BUNDLE": str(directory / "ca.pem"),
        }
        urls = {kind: f"http{'s' if kind == 'https' else ''}://127.0.0.1:{port}" for kind, port in ports.items()}
        yield Endpoints(urls, environment, directory / "access.log")


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    child.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:  # all are held until all are known
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    while child.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"a server ended with {child.returncode}; its own words are above")


def _make_certificate(directory: Path) -> None:
    """Make an authority, and a certificate of its for 127.0.0.1."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-subj", "/CN=benchmark authority", "-keyout", "ca.key", "-out", "ca.pem"]
    server = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    server += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"]
    server += ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem"]
    for names in (authority, server):
        command = ["openssl", "req", "-x509", "-days", "2", *key, *names]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
