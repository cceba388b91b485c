"""How does the stand-in answer ListObjectsV2? A process behind nginx, with the keys sorted and their XML ready.

`python _lister.py DATA PORT` lists `DATA/<bucket>/`, as it was when the bucket was first asked for, with the ETags that
nginx gives. Prefix, delimiter, start-after and continuation tokens are answered; a thousand keys a page.
"""

from __future__ import annotations

import asyncio
import bisect
import os
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000


def keys_of(bucket: Path) -> tuple[list[str], list[str]]:
    """Walk the bucket: its keys in S3's order, and the XML of each."""
    found = []
    for directory, _, names in os.walk(bucket):
        for name in names:
            path = os.path.join(directory, name)
            status = os.stat(path)
            seconds = int(status.st_mtime)
            modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
            key = os.path.relpath(path, bucket)
            xml = (
                f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
                f"<ETag>&quot;{seconds:x}-{status.st_size:x}&quot;</ETag><Size>{status.st_size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
            found.append((key, xml))
    found.sort(key=lambda pair: pair[0].encode())
    return [key for key, _ in found], [xml for _, xml in found]


def answer(target: str, data: Path, buckets: dict[str, tuple[list[str], list[str]]]) -> bytes:
    parts = urlsplit(target)
    bucket = parts.path.strip("/")
    if bucket not in buckets:
        buckets[bucket] = keys_of(data / bucket)
    keys, entries = buckets[bucket]
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token") or query.get("start-after", "")
    limit = min(int(query.get("max-keys", PAGE)), PAGE)
    index = max(bisect.bisect_left(keys, prefix), bisect.bisect_right(keys, after) if after else 0)
    contents, common, last = [], [], ""
    while index < len(keys) and keys[index].startswith(prefix) and len(contents) + len(common) < limit:
        rest = keys[index][len(prefix) :]
        if delimiter and delimiter in rest:
            group = prefix + rest.partition(delimiter)[0] + delimiter
            common.append(group)
            last = group + "\U0010ffff"
            index = bisect.bisect_right(keys, last)
        else:
            contents.append(entries[index])
            last = keys[index]
            index += 1
    is_truncated = index < len(keys) and keys[index].startswith(prefix)
    token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if is_truncated else ""
    groups = "".join(f"<CommonPrefixes><Prefix>{escape(group)}</Prefix></CommonPrefixes>" for group in common)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(contents) + len(common)}</KeyCount>"
        f"<MaxKeys>{limit}</MaxKeys><IsTruncated>{str(is_truncated).lower()}</IsTruncated>{token}"
        f"{''.join(contents)}{groups}</ListBucketResult>"
    ).encode()


async def serve(data: Path, port: int) -> None:
    buckets: dict[str, tuple[list[str], list[str]]] = {}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = answer(head.split(b" ", 2)[1].decode(), data, buckets)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
