"""Which workers are on one host."""

from __future__ import annotations

import pytest

from datacachalog.integrations.dask._hosts import Seat, names_of, shared_place

MOUNTS = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 0:52 / /home rw,relatime shared:9 - nfs4 filer:/export/home rw,vers=4.2
41 22 0:53 /projects/x /mnt/with\040space rw - lustre 10.1.1.1@tcp:/scratch rw
42 40 254:2 / /home/local rw - xfs /dev/vdb rw
43 22 0:54 / /over rw - nfs filer:/old rw
44 22 254:3 / /over rw - ext4 /dev/vdc rw
45 22 0:55 / /vm rw - virtiofs mount0 rw
a line that nobody understands
"""


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/home/ada/.cache", "filer:/export/home/ada/.cache"),
        ("/home", "filer:/export/home"),
        ("/mnt/with space/cache", "10.1.1.1@tcp:/scratch/projects/x/cache"),
        ("/home/local/cache", None),  # a disk, mounted inside of it
        ("/homes/ada", None),  # begins alike, and is elsewhere
        ("/over/cache", None),  # the later mount hides the earlier one
        ("/vm/cache", None),  # the name of such a mount says nothing of what it is
        ("/var/cache", None),
    ],
)
def test_a_directory_on_a_network_file_system_is_the_same_on_all_machines(directory, expected):
    """What is mounted from a server is known by the server's name for it; a disk is its machine's own."""
    assert expected == shared_place(directory, MOUNTS)


def test_nothing_is_shared_where_the_mounts_are_not_known():
    """A text without mounts, of another system say, tells of nothing shared."""
    assert shared_place("/home/ada", "") is None


def test_a_host_is_named_by_its_address_if_that_is_enough():
    """The directory is added where one machine has several caches; a shared place is named by what it is."""
    seats = {Seat("10.0.0.1", "/cache"), Seat("10.0.0.2", "/a"), Seat("10.0.0.2", "/b"), Seat("", "filer:/x")}
    assert {"10.0.0.1", "10.0.0.2:/a", "10.0.0.2:/b", "filer:/x"} == set(names_of(seats).values())
