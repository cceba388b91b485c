"""When was each file last used, and how many bytes are there? Two small files that all processes write, without a lock.

`accesses` is a table of times, one for each file, at an offset drawn from the file's place: nothing is made for an
entry or cleaned up after it, and a time is one small write, which is whole or not there. Two files that share an offset
(one in ten does, of 100 000) are both as recent as the later of them; so one may be kept longer, and none shorter. Our
own times, because a file system updates its access times when a backup reads, or once a day, or never.

`bytes` begins with a total and goes on with what was added to it and taken away, each in one appending write. It is
there if somebody has bounds. A process that is killed between a change and its note, or two hosts that append at once
over a network, make it wrong by that file: every survey of the directory makes it right again.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress

from . import _disk

GRANULARITY_SECONDS = 1.0
"""A use that follows one that is written down within this time is only written down with the next: a file that is asked
for again and again costs a write a second. Whoever evicts adds it to the grace period."""

_SLOTS = 1 << 20
_LONGEST_ACCOUNT_BYTES = 1 << 20  # 130 000 notes; then a survey costs less than reading on
_MOST_REMEMBERED = 20_000
_NUMBER = struct.Struct("<q")


class Usage:
    """The two files of one cache, as this process writes and reads them.

    Args:
        directory: where they are; made by whoever writes there first.
    """

    def __init__(self, directory: str) -> None:
        self._accesses = os.path.join(directory, "accesses")
        self._account = os.path.join(directory, "bytes")
        self._written: dict[str, float] = {}
        self._unwritten: dict[str, int] = {}
        self._read: tuple[bytes, int, int] = (b"", 0, 0)
        """Of the account: its name, how much of it is read, and the sum of that."""

    # -- times

    def is_noted(self, places: Iterable[str]) -> bool:
        """Note uses without touching the disk, if all of them were written down a moment ago; whether they were."""
        since, now = time.monotonic() - GRANULARITY_SECONDS, time.time_ns()
        fresh = {place: now for place in places if self._written.get(place, 0.0) > since}
        self._unwritten.update(fresh)
        return all(place in fresh for place in places)

    def note(self, places: Iterable[str]) -> None:
        """Write down that these were used just now, and what was noted before; no error where that can't be written."""
        now = time.time_ns()
        times = {**self._unwritten, **{place: now + index for index, place in enumerate(places)}}
        self._unwritten.clear()
        if not times:
            return
        with suppress(OSError):
            _disk.put_at(self._accesses, ((_offset(place), _NUMBER.pack(at)) for place, at in times.items()))
        if len(self._written) > _MOST_REMEMBERED:
            self._written.clear()
        self._written.update(dict.fromkeys(times, time.monotonic()))

    def last_use_ns(self, place: str) -> int:
        """When a file was last used, as POSIX nanoseconds; 0 if that was never written down."""
        with suppress(OSError), open(self._accesses, "rb", buffering=0) as file:
            file.seek(_offset(place))
            found = file.read(_NUMBER.size)
            if len(found) == _NUMBER.size:
                return int(_NUMBER.unpack(found)[0])
        return 0

    def times(self) -> Times:
        """Read the whole table."""
        with suppress(OSError), open(self._accesses, "rb", buffering=0) as file:
            return Times(file.read())
        return Times(b"")

    # -- bytes

    def has_account(self) -> bool:
        """Whether an account is kept: it is, once somebody has bounds."""
        return os.path.lexists(self._account)

    def add(self, difference: int) -> None:
        """Note that there are so many bytes more, or fewer, if an account is kept."""
        if difference:
            with suppress(OSError):
                _disk.append(self._account, _NUMBER.pack(difference))

    def total_bytes(self) -> int | None:
        """Sum up the account; None if there is none, or it is damaged or long: then it is time for a survey."""
        try:
            with open(self._account, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                name = file.read(_NUMBER.size)
                if size % _NUMBER.size or not size or size > _LONGEST_ACCOUNT_BYTES:
                    return None
                known, position, total = self._read
                if known != name or position > size:
                    position, total = _NUMBER.size, 0
                file.seek(position)
                tail = file.read(size - position)
        except OSError:
            return None
        total += sum(int(number) for (number,) in _NUMBER.iter_unpack(tail))
        self._read = (name, size, total)
        return total

    def begin_account(self, total_bytes: int, temporary: str) -> None:
        """Begin the account anew, with what a survey has found; no error where nothing can be written.

        Args:
            total_bytes: that.
            temporary: a name for the new file until it is whole.
        """
        with suppress(OSError):
            with _disk.create(temporary) as file:
                # A name of its own, so that nobody goes on reading where another account ended.
                _disk.write_all(file, [secrets.token_bytes(_NUMBER.size), _NUMBER.pack(total_bytes)])
            _disk.replace(temporary, self._account)


class Times:
    """The table of times, as it was read."""

    def __init__(self, table: bytes) -> None:
        self._table = table

    def last_use_ns(self, place: str) -> int:
        """When a file was last used, as POSIX nanoseconds; 0 if that was never written down."""
        offset = _offset(place)
        return int(_NUMBER.unpack_from(self._table, offset)[0]) if offset + _NUMBER.size <= len(self._table) else 0


def _offset(place: str) -> int:
    return zlib.crc32(place.encode(errors="surrogatepass")) % _SLOTS * _NUMBER.size


_usages: dict[str, Usage] = {}


def usage_of(directory: str) -> Usage:
    """Give this process's one view of the two files in that directory."""
    return _usages.get(directory) or _usages.setdefault(directory, Usage(directory))
