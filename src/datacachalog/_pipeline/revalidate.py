"""What does the remote say of many objects at once? A listing tells of a thousand what takes a request each else.

How to list is decided from values alone; only `survey` waits. The wanted keys of a bucket are sorted by the bytes of
their keys, as S3 lists, and each page is asked for from right before the next wanted key, however many others lie
between. So a page tells of one wanted key at least, or says by its silence that the object is gone.

A page costs more than the request that it replaces, though: about twelve times as much money, and the work of reading
its entries. Where few of its entries were wanted, the next keys are left to be asked for one by one, twice as many each
time; so keys that lie far apart cost a handful of listings more, and never twice the requests.

A listing is as current as a HEAD: S3 lists are strongly consistent
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel).
"""

from __future__ import annotations

import itertools
import os.path
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .._errors import AccessDeniedError, DatacachalogError, StorageError, StorageUnreachableError, ThrottledError
from .._models import FileMetadata
from ..ports import CacheEntry, ListPage
from .requests import Requests, Retries
from .workers import each

PAGE_OBJECTS = 1000
"""What S3 gives at most in one answer."""

LEAST_KEYS = 16
"""With fewer wanted keys in a bucket, asking for each is as fast as one listing and cheaper."""

_ENTRIES_A_KEY = 50
"""A page pays as long as one in so many of its entries was wanted: reading them takes about the CPU time of one
conditional GET, and a page of a thousand the money of twelve."""

_ENTRIES_AT_FIRST = 8
"""So many entries are asked for, for each key that is still wanted: a store takes longer for a full page."""

_KEYS_LEFT = 32
"""So many keys are left to be asked for one by one after the first page that didn't pay."""

_HIGHEST = "\U0010ffff"
_LONGEST_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


@dataclass(frozen=True, slots=True)
class Run:
    """URIs below one root that are looked for in one listing after the other; in the order of the keys."""

    root: str
    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """One page to ask for."""

    prefix: str
    start_after: str
    limit: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is.

    Args:
        index: of the next wanted one.
        keys_left: how many are left out after the next page that doesn't pay.
    """

    index: int = 0
    keys_left: int = _KEYS_LEFT

    @property
    def has_missed(self) -> bool:
        """Whether the last page didn't pay."""
        return self.keys_left > _KEYS_LEFT


@dataclass(frozen=True, slots=True)
class Survey:
    """What the listings have said.

    Args:
        found: the objects that were listed, by URI. Of the others nothing is known.
        asked: how many listings were asked for from right before a URI: what a plan counts for it.
    """

    found: dict[str, FileMetadata] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)


def plan_runs(uris: Iterable[str]) -> list[Run]:
    """Divide what is wanted into runs, of a page each where nothing else lies between; they can be listed at once.

    Keys that can't be written as UTF-8 are left out: no listing has them.
    """
    by_root: dict[str, set[str]] = {}
    for uri in uris:
        if uri.isascii() or _is_text(uri):
            by_root.setdefault(root_of(uri), set()).add(uri)
    runs: list[Run] = []
    for root, wanted in by_root.items():
        if len(wanted) >= LEAST_KEYS:
            # The order of code points is that of their UTF-8 bytes (RFC 3629, section 1).
            ordered = sorted(wanted)
            # As even as can be: a short last run would be a page for little.
            count = -(-len(ordered) // PAGE_OBJECTS)
            cuts = [len(ordered) * number // count for number in range(count + 1)]
            runs += [Run(root, tuple(ordered[start:stop])) for start, stop in itertools.pairwise(cuts)]
    return runs


def root_of(uri: str) -> str:
    """Give a URI as far as the `/` before its key."""
    return uri[: uri.find("/", uri.find("://") + 3) + 1]


def _is_text(uri: str) -> bool:
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True


def next_page(run: Run, position: Position) -> Ask | None:
    """Give the page to ask for; None when the run is over, or too few are left for one to pay."""
    left = len(run.uris) - position.index
    if left < (LEAST_KEYS if position.has_missed else 2):
        return None
    first = run.uris[position.index]
    # Of sorted texts the first and the last have the least in common.
    prefix = os.path.commonprefix([first, run.uris[-1]])  # noqa: RUF071  # a prefix of S3 is one of characters
    return Ask(prefix, just_before(first, run.root), min(PAGE_OBJECTS, left * _ENTRIES_AT_FIRST))


def just_before(uri: str, root: str) -> str:
    """Give a text that comes before a URI and behind all others that do, but for those that nobody would use as names.

    No text is the one before another, but that of it less a NUL at its end.
    """
    head, last = uri[:-1], uri[-1:]
    if len(uri) <= len(root) or last == "\0":
        return head
    code = ord(last) - 1
    before = head + chr(0xD7FF if code == 0xDFFF else code)  # surrogates are no characters
    is_short = len(before[len(root) :].encode()) + len(_HIGHEST.encode()) <= _LONGEST_KEY_BYTES
    return before + _HIGHEST if is_short else before


def after_page(run: Run, position: Position, page: ListPage) -> tuple[dict[str, FileMetadata], Position]:
    """Take what a page says: the wanted ones that it has, and how far the run is then.

    What lies before the end of the page and isn't on it is not there.
    """
    listed = {item.uri: item.metadata for item in page.objects}
    end = len(run.uris)
    if page.next_token is not None and page.objects:
        last = page.objects[-1].uri
        end = position.index + 1  # asked for from right before it; also where a store lists in another order
        while end < len(run.uris) and run.uris[end] <= last:
            end += 1
    found = {uri: listed[uri] for uri in run.uris[position.index : end] if uri in listed}
    if len(found) * _ENTRIES_A_KEY >= len(page.objects):
        return found, Position(end)
    return found, Position(end + position.keys_left, position.keys_left * 2)


def is_confirmed(entry: CacheEntry, listed: FileMetadata | None) -> bool:
    """Whether a listing has the cached version: the same ETag and size. What is listed without an ETag says nothing."""
    return listed is not None and listed.etag is not None and listed.is_same_version(entry.metadata)


async def survey(datasets: Mapping[str, str], requests: Requests, unlistable: set[str]) -> Survey:
    """Ask for listings where that pays; an error is no more than nothing said.

    Cancellation closes the connections.

    Args:
        datasets: the objects of which something is wanted, by URI, and the names of their datasets.
        requests: the way to the remote.
        unlistable: the roots that may not or can't be listed; added to.
    """
    runs = [run for run in plan_runs(datasets) if run.root not in unlistable and requests.is_seekable(run.root)]
    result = Survey()

    async def one(run: Run) -> None:
        position = Position()
        while run.root not in unlistable and (ask := next_page(run, position)) is not None:
            first = run.uris[position.index]
            result.asked[first] = result.asked.get(first, 0) + 1
            try:
                page = await _listed(ask, datasets[first], requests)
            except DatacachalogError as error:
                # A refusal of its own kind is a store that can't list like this: 400, 405, 501.
                if isinstance(error, AccessDeniedError) or type(error) is StorageError:
                    unlistable.add(run.root)
                return
            found, position = after_page(run, position, page)
            result.found.update(found)

    await each(runs, one, at_once=requests.config.max_concurrency)
    return result


async def _listed(ask: Ask, dataset: str, requests: Requests) -> ListPage:
    """Ask twice at most: where nobody answers, each object is asked for as often as the configuration says."""
    try:
        return await requests.list_after(ask.prefix, ask.start_after, ask.limit)
    except (StorageUnreachableError, ThrottledError) as error:
        if requests.config.retries == 0:
            raise
        await Retries(requests, dataset, ask.prefix).wait(error)
    return await requests.list_after(ask.prefix, ask.start_after, ask.limit)
