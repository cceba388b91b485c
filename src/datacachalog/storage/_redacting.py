"""What may be shown of an error that a library raised? Its text without the secrets of the URLs in it."""

from __future__ import annotations

import re

from .._errors import redact_uri

_URL = re.compile(r"""https?://[^\s"'<>]+""")


def redacted(text: str) -> str:
    """Take off a text what may be secret in the URLs that it shows."""
    return _URL.sub(lambda match: redact_uri(match[0]), text)


def text_of(error: BaseException) -> str:
    """Give an error's text without what may be secret in the URLs that it shows."""
    return redacted(str(error))


def cause_of(error: BaseException) -> BaseException | None:
    """Give an error as the cause of ours; None if its text, or that of one of its own causes, shows a secret."""
    shown: BaseException | None = error
    while shown is not None:
        if text_of(shown) != str(shown):
            return None
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    return error
