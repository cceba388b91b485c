"""From whom does a host get a file? From its parent in the file's tree, whose root reads the store.

Each file has a tree of its own: all are the same binary tree, turned by a number drawn from the file's URI. So every
host finds out for itself from whom to take what, without asking anybody; it is the root of its share of the files, has
children in about half of the trees and two at most in each, and sends about as many bytes as it receives.
"""

from __future__ import annotations

import zlib


def sources(uri: str, version_id: str | None, host: int, hosts: int) -> list[int]:
    """Give the hosts from which a host may take a file, its parent first, then the parent's, to the root.

    The list is empty for the root: it takes the file from the store, as does each host whose sources all fail.

    Args:
        uri: the file.
        version_id: its version, if one is meant.
        host: the number of the host, from 0.
        hosts: how many there are.
    """
    root = zlib.crc32(f"{uri}\0{version_id or ''}".encode(errors="surrogatepass")) % hosts
    place = (host - root) % hosts
    found = []
    while place:
        place = (place - 1) // 2
        found.append((root + place) % hosts)
    return found
