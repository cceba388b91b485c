"""The floor with threads: blocking sockets, `recv_into` one buffer a thread, `pwrite`; unsigned and unchecked."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import deque

from _http import address_of, body_of, pieces, request
from _job import call, job, path_of

the_job = job()
threads, part = int(sys.argv[2]), int(sys.argv[3])
host, port, context = address_of(the_job.endpoint)


def connected() -> socket.socket:
    plain = socket.create_connection((host, port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname=host) if context else plain


def work(queue: deque[tuple[str, int, int]], descriptors: dict[str, int]) -> None:
    buffer = memoryview(bytearray(1 << 18))
    with connected() as connection:
        while queue:
            try:
                key, start, stop = queue.popleft()
            except IndexError:
                return
            connection.sendall(request(the_job.bucket, key, host, start, stop))
            descriptor = descriptors.get(key, -1)
            if is_new := descriptor < 0:
                descriptor = os.open(path_of(the_job.target, key), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            received = connection.recv_into(buffer)
            begin = body_of(buffer[:received])
            while True:
                start += os.pwrite(descriptor, buffer[begin:received], start)
                if start >= stop:
                    break
                begin, received = 0, connection.recv_into(buffer)
            if is_new:
                os.close(descriptor)


with call():
    queue = deque(pieces(the_job.keys, the_job.size, part))
    descriptors = {}
    if the_job.size > part:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptors = {key: os.open(path_of(the_job.target, key), flags, 0o644) for key in the_job.keys}
    workers = [threading.Thread(target=work, args=(queue, descriptors)) for _ in range(min(threads, len(queue)))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for descriptor in descriptors.values():
        os.close(descriptor)
