"""What does a bad line do to a transfer? A way to a server that ends or stalls the first connections' answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK_BYTES = 64 * 1024


@dataclass
class Proxy:
    """Passes bytes on, both ways.

    Args:
        port: of the server on 127.0.0.1.
        faults: how many answers are still to be spoilt.
        after_bytes: of an answer; the next ones don't arrive.
        is_cut: whether the connection then ends; else it stalls.
    """

    port: int
    faults: int = 0
    after_bytes: int = 0
    is_cut: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ends: list[socket.socket] = field(default_factory=list)

    def serve(self, client: socket.socket, over: threading.Event) -> None:
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            self._ends += (client, server)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
            passed = 0
            with suppress(OSError):
                while data := server.recv(_BLOCK_BYTES):
                    passed += len(data)
                    if passed > self.after_bytes and self._takes_a_fault():
                        if self.is_cut:
                            client.shutdown(socket.SHUT_RDWR)  # to close it would wait for the other thread
                        else:
                            over.wait()
                        return
                    client.sendall(data)

    def close(self) -> None:
        """End all connections, those too that are kept for a next request."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _takes_a_fault(self) -> bool:
        with self._lock:
            self.faults -= 1
            return self.faults >= 0


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_BLOCK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def proxy_to(port: int) -> Iterator[tuple[Proxy, int]]:
    """Open a way to a port; gives it and its own port."""
    proxy, over = Proxy(port), threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                client, _ = listener.accept()
                if over.is_set():
                    client.close()
                    return
                threads.append(threading.Thread(target=proxy.serve, args=(client, over), daemon=True))
                threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield proxy, listener.getsockname()[1]
        finally:
            over.set()
            socket.create_connection(listener.getsockname()).close()
            accepting.join()
            proxy.close()
    for thread in threads:
        thread.join(5)
