"""How long does it take until objects are files?

`nox -s bench -- downloads --works large-http,small-far --contenders datacachalog,obstore -n 3`
"""

from __future__ import annotations

from _contenders import FAR_LARGE, FAR_SMALL, MANY_SMALL, MIB, ONE_LARGE, SOME_MEDIUM
from _downloads import Work, compare

WORKS = {
    "large-http": Work("http", 1, 1024 * MIB, 3, ONE_LARGE),
    "large-https": Work("https", 1, 1024 * MIB, 3, ONE_LARGE),
    "small-http": Work("http", 2000, 16 * 1024, 3, MANY_SMALL),
    "large-far": Work("far", 1, 1024 * MIB, 3, FAR_LARGE),
    "small-far": Work("far", 1000, 16 * 1024, 3, FAR_SMALL),
    "medium-http": Work("http", 64, 16 * MIB, 3, SOME_MEDIUM),
}

if __name__ == "__main__":
    compare("downloads", WORKS)
