"""From whom a host gets a file."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacachalog.integrations.dask._tree import sources


@settings(max_examples=40, deadline=None)
@given(uri=st.text(), hosts=st.integers(1, 300))
def test_every_host_of_a_file_hangs_on_one_root(uri, hosts):
    """One host has no source but the store; every other's sources lead to it, in steps as few as a binary tree has."""
    found = {host: sources(uri, None, host, hosts) for host in range(hosts)}
    [root] = [host for host, others in found.items() if not others]
    assert all(others[-1] == root for host, others in found.items() if host != root)
    assert all(len(others) == 1 + len(found[others[0]]) for others in found.values() if others)
    assert max(map(len, found.values())) == hosts.bit_length() - 1


@settings(max_examples=40, deadline=None)
@given(uri=st.text(), hosts=st.integers(1, 300))
def test_no_host_has_more_than_two_children(uri, hosts):
    """What a host sends of one file is bounded, however many hosts there are."""
    parents = Counter(others[0] for host in range(hosts) if (others := sources(uri, None, host, hosts)))
    assert max(parents.values(), default=0) <= 2


@pytest.mark.parametrize("hosts", [3, 10, 64])
def test_work_is_spread_over_the_hosts(hosts):
    """Over many files each host reads its share from the store, and sends about what each other one sends."""
    files = [f"s3://bucket/part-{number:05}.parquet" for number in range(1_000)]
    roots: Counter[int] = Counter()
    sent: Counter[int] = Counter()
    for uri in files:
        for host in range(hosts):
            others = sources(uri, None, host, hosts)
            (sent if others else roots)[others[0] if others else host] += 1
    for counts, mean in ((roots, len(files) / hosts), (sent, len(files) * (hosts - 1) / hosts)):
        assert hosts == len(counts)
        assert 0.5 * mean < min(counts.values()) <= max(counts.values()) < 1.7 * mean
