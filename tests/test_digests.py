"""The digests: known values, one spelling, and CRCs that combine."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog._digests import (
    DIGEST_BYTES,
    crc_algorithm_of,
    crc_functions,
    digest_chunks,
    digest_file,
    format_crc,
    parse_digest,
)

# The check value of each algorithm is that of "123456789" (the catalogue of parametrised CRC algorithms; RFC 1321,
# RFC 3174, FIPS 180-4 for the others).
KNOWN = {
    "crc64nvme": "crc64nvme:" + base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode(),
    "crc32c": "crc32c:" + base64.b64encode(bytes.fromhex("e3069283")).decode(),
    "crc32": "crc32:" + base64.b64encode(bytes.fromhex("cbf43926")).decode(),
    "md5": "md5:25f9e794323b453885f5181f1b624d0b",
    "sha1": "sha1:f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "sha512": "sha512:d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a"
    "d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
}


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
def test_digest_has_the_known_value(algorithm):
    """Each algorithm gives its published check value."""
    assert KNOWN[algorithm] == digest_chunks(algorithm, [b"1234", b"", b"56789"])


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
def test_digest_of_a_file_is_that_of_its_bytes(tmp_path, algorithm):
    """Reading in pieces changes nothing."""
    data = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(data)
    assert digest_chunks(algorithm, [data]) == digest_file(str(tmp_path / "a"), algorithm)


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32"])
@given(parts=st.lists(st.binary(max_size=50), max_size=6))
def test_crcs_of_parts_combine_to_that_of_the_whole(algorithm, parts):
    """In whatever order the parts came, their CRCs give the file's; empty parts and an empty file included."""
    update, combine = crc_functions(algorithm)
    value = 0
    for part in parts:
        value = combine(value, update(part, 0), len(part))
    assert digest_chunks(algorithm, parts) == format_crc(algorithm, value)


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
def test_digest_is_read_in_hexadecimal_and_base64(algorithm):
    """Both spellings, capitals and spaces around give the canonical one."""
    digest = bytes(range(DIGEST_BYTES[algorithm]))
    texts = [f"{algorithm}:{digest.hex()}", f"{algorithm.upper()}: {digest.hex().upper()} "]
    texts.append(f"{algorithm}:{base64.b64encode(digest).decode()}")
    assert 1 == len({parse_digest(text) for text in texts})


@given(algorithm=st.sampled_from(sorted(DIGEST_BYTES)), data=st.binary(max_size=20))
def test_canonical_spelling_is_read_as_itself(algorithm, data):
    """What is written can be read."""
    digest = digest_chunks(algorithm, [data])
    assert digest == parse_digest(digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "md5",
        "md5:",
        "md4:00",
        "md5:zz",
        "md5:" + "0" * 31,
        "crc32:AAAA",
        "crc32:AAAAAAA=",
        "sha256:" + "0" * 63,
    ],
)
def test_text_that_is_no_digest_is_refused(text):
    """Unknown algorithm, other length, other alphabet: a `ValueError` that shows what was given."""
    with pytest.raises(ValueError, match="got "):
        parse_digest(text)


@pytest.mark.parametrize(
    ("digest", "expected"),
    [("crc32c:AAAAAA==", "crc32c"), ("crc64nvme:", "crc64nvme"), ("md5:00", None), ("", None), (None, None)],
)
def test_crc_is_told_from_other_digests(digest, expected):
    """Only the CRCs can be combined."""
    assert expected == crc_algorithm_of(digest)
