"""The floor with asyncio: a `BufferedProtocol` that receives into one buffer and writes it; unsigned and unchecked."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque

from _http import address_of, body_of, pieces, request
from _job import call, job, path_of

the_job = job()
connections, part = int(sys.argv[2]), int(sys.argv[3])
host, port, context = address_of(the_job.endpoint)


class Receiver(asyncio.BufferedProtocol):
    """One connection: takes pieces from the queue until there is none."""

    def __init__(self, queue: deque[tuple[str, int, int]], descriptors: dict[str, int]) -> None:
        self.queue = queue
        self.descriptors = descriptors
        self.buffer = memoryview(bytearray(1 << 18))
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if not self.queue:
            self.finished.set_result(None)
            self.transport.close()
            return
        self.key, self.start, self.stop = self.queue.popleft()
        self.descriptor = self.descriptors.get(self.key, -1)
        if self.descriptor < 0:
            self.descriptor = os.open(path_of(the_job.target, self.key), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self.is_head = True
        self.transport.write(request(the_job.bucket, self.key, host, self.start, self.stop))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        return self.buffer

    def buffer_updated(self, received: int) -> None:
        begin = body_of(self.buffer[:received]) if self.is_head else 0
        self.is_head = False
        self.start += os.pwrite(self.descriptor, self.buffer[begin:received], self.start)
        if self.start >= self.stop:
            if self.key not in self.descriptors:
                os.close(self.descriptor)
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(error or ConnectionResetError())


async def main() -> None:
    loop = asyncio.get_running_loop()
    queue = deque(pieces(the_job.keys, the_job.size, part))
    descriptors = {}
    if the_job.size > part:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptors = {key: os.open(path_of(the_job.target, key), flags, 0o644) for key in the_job.keys}

    async def one() -> None:
        _, receiver = await loop.create_connection(lambda: Receiver(queue, descriptors), host, port, ssl=context)
        await receiver.finished

    await asyncio.gather(*(one() for _ in range(min(connections, len(queue)))))
    for descriptor in descriptors.values():
        os.close(descriptor)


with call():
    asyncio.run(main())
