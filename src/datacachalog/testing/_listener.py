"""How are connections accepted, and how is a port kept while they are refused?"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector

_BACKLOG = 1024


class Listener:
    """Accepts connections in a thread of its own until it is closed."""

    def __init__(self, bound: socket.socket, begin_connection: Callable[[socket.socket], None]) -> None:
        bound.listen(_BACKLOG)
        self._bound = bound
        self._begin_connection = begin_connection
        # A socket that a selector watches can't be woken up by closing it on every system; this pair does it.
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="FaultServer listener", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with DefaultSelector() as selector:
            selector.register(self._bound, EVENT_READ)
            selector.register(self._woken, EVENT_READ)
            while not any(key.fileobj is self._woken for key, _ in selector.select()):
                # A client that has gone meanwhile is no reason to stop.
                with suppress(OSError):
                    self._begin_connection(self._bound.accept()[0])

    def close(self) -> None:
        """Accept no more; what was accepted goes on."""
        self._wake.send(b".")
        if self._thread is not threading.current_thread():
            self._thread.join()
        with suppress(OSError):
            # So that nobody is accepted by the kernel even if a forked child holds a copy of the descriptor.
            self._bound.shutdown(socket.SHUT_RDWR)
        for end in (self._bound, self._wake, self._woken):
            end.close()


def bound_socket(address: tuple[str, int]) -> socket.socket:
    """Take a port; while nobody listens at it, the kernel refuses connections to it.

    Raises:
        OSError: somebody else has it.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":
        # There it would mean that two sockets may listen at one port; here, that a port of ended connections is free.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
