"""How are rows read as objects? `sqlite://shop/customers.csv` is the row with that URI."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread

from datacachalog import (
    CatalogConfig,
    FileMetadata,
    ObjectNotFoundError,
    StorageError,
    StorageUnreachableError,
    VersioningNotSupportedError,
)
from datacachalog.ports import (
    ListedObject,
    ListPage,
    NotModified,
    RangeNotSatisfiable,
    ReadOutcome,
    ReadRequest,
    ReadResponse,
    VersionChanged,
)

TABLE = "CREATE TABLE objects (uri TEXT PRIMARY KEY, etag TEXT, modified REAL, data BLOB)"


@dataclass(frozen=True, slots=True)
class SqliteStorage:
    """Objects in a table of SQLite, as settings: nothing is open in it, and it pickles.

    Args:
        database: the file; None means the environment variable `SQLITE_OBJECTS`.
        page_size: how many objects are listed at once.
    """

    database: str | None = None
    page_size: int = 1000

    @asynccontextmanager
    async def connect(self, config: CatalogConfig) -> AsyncIterator[SqliteSession]:
        yield SqliteSession(self.database or os.environ["SQLITE_OBJECTS"], self.page_size)


class SqliteSession:
    """An open way to the objects. Each call is one query in a worker thread."""

    def __init__(self, database: str, page_size: int) -> None:
        self._database = database
        self._page_size = page_size

    async def head(self, uri: str, *, version_id: str | None = None) -> FileMetadata:
        if version_id is not None:
            raise VersioningNotSupportedError(uri, "the table keeps no versions")
        statement = "SELECT etag, modified, length(data) FROM objects WHERE uri = ?"
        found = await self._query(uri, statement, uri)
        return metadata(uri, found)

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[ReadOutcome]:
        if request.version_id is not None:
            raise VersioningNotSupportedError(request.uri, "the table keeps no versions")
        # Metadata and bytes come from one query, so they are of one version.
        length = -1 if request.stop is None else request.stop - request.start
        found = await self._query(
            request.uri,
            "SELECT etag, modified, length(data),"
            " substr(data, 1 + ?, iif(? < 0, length(data), ?))"
            " FROM objects WHERE uri = ?",
            request.start, length, length, request.uri,
        )  # fmt: skip
        about = metadata(request.uri, found)
        if request.if_match is not None and request.if_match != about.etag:
            yield VersionChanged()
        elif request.if_none_match is not None and request.if_none_match == about.etag:
            yield NotModified()
        elif (request.start or request.stop is not None) and request.start >= about.size:
            yield RangeNotSatisfiable()
        else:
            data = found[0][3] or b""  # of no bytes, substr makes NULL
            yield ReadResponse(about, request.start, request.start + len(data), once(data))

    async def list_page(self, prefix: str, *, token: str | None = None) -> ListPage:
        # SQLite compares texts by their UTF-8 bytes: that is the order that a catalog wants.
        rows = await self._query(
            prefix,
            "SELECT etag, modified, length(data), uri FROM objects"
            " WHERE substr(uri, 1, length(?)) = ? AND uri > ? ORDER BY uri LIMIT ?",
            prefix, prefix, token or "", self._page_size + 1,
        )  # fmt: skip
        page = rows[: self._page_size]
        objects = tuple(ListedObject(row[3], metadata(row[3], [row])) for row in page)
        return ListPage(objects, page[-1][3] if len(rows) > len(page) else None)

    async def _query(self, uri: str, sql: str, *values: object) -> list[Any]:
        """Ask the database, and raise what a catalog expects of a storage."""

        def ask() -> list[Any]:
            database = f"file:{self._database}?mode=ro"
            with closing(sqlite3.connect(database, uri=True)) as connection:
                return connection.execute(sql, values).fetchall()

        try:
            return await anyio.to_thread.run_sync(ask)
        except sqlite3.OperationalError as error:  # locked, or not there: worth another try
            raise StorageUnreachableError(uri, str(error)) from error
        except sqlite3.Error as error:
            raise StorageError(uri, str(error)) from error


def metadata(uri: str, rows: list[Any]) -> FileMetadata:
    if not rows:
        raise ObjectNotFoundError(uri, "no such row")
    etag, modified, size = rows[0][:3]
    written = datetime.fromtimestamp(modified, UTC)
    return FileMetadata(etag=etag, last_modified=written, size=size)


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data
