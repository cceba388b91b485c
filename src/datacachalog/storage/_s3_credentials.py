"""With which credentials is a request signed, and what if the remote says that they have expired? They are found anew.

A long transfer outlives its credentials: a role's last an hour, and a token in the shared file is replaced by whatever
program logs in. So a request that is refused for that is repeated, once, with what is found where the first ones were
found; if those are the same, nothing has changed and the refusal stands. Invariants:

- The client and the short way sign with one object, so what one has renewed the other uses.
- However many requests are refused at once, the credentials are looked for once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio

from .._threads import in_daemon_thread

_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",  # the key was replaced by a newer one
        "InvalidToken",
        "TokenRefreshRequired",
    }
)
_EXPIRED_WITHOUT_A_WORD = frozenset({"400", "403"})  # the answer to a HEAD has no body that could say more
_PAUSE_SECONDS = 5.0
"""How long credentials are not looked for again after nothing new was found: every refused HEAD would ask for them."""

_Result = TypeVar("_Result")


class SessionCredentials:
    """The credentials of one S3 session, in the shape in which botocore's signers take them.

    Args:
        found: an aiobotocore credentials object; it may refresh itself when it knows that it expires.
        find: looks for credentials anew, where those were found. It may block: it is called in a thread.
    """

    def __init__(self, found: Any, find: Callable[[], Awaitable[Any]]) -> None:
        self._found = found
        self._find = find
        self._lock = anyio.Lock()
        self._fruitless: Any = None
        self._fruitless_at = 0.0

    async def get_frozen_credentials(self) -> Any:
        """Give the access key, the secret and the token of the moment; botocore's signers call this.

        Raises:
            CredentialRetrievalError: they have expired, and so have those that came in their place.
        """
        return await _frozen(self._found)

    def sign_with_these(self, request: Any, **_: Any) -> None:
        """Have the client sign with these credentials; botocore calls it right before it does (`before-sign`)."""
        request.context.setdefault("signing", {}).setdefault("request_credentials", self)

    async def signed(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        """Send a request, and send it once more where the credentials had expired and others are found.

        Raises:
            botocore.exceptions.ClientError: the remote refuses.
        """
        from botocore.exceptions import ClientError

        used = await self.get_frozen_credentials()
        try:
            return await ask()
        except ClientError as error:
            if not has_expired(error.response):
                raise
            try:
                is_renewed = await self._renew(used)
            except Exception as failure:  # whatever a provider raises, it is the refusal that the caller is to see
                raise error from failure
            if not is_renewed:
                raise
        return await ask()

    async def _renew(self, used: Any) -> bool:
        """Look for credentials that differ from those used; whether there are such."""
        async with self._lock:
            if await self.get_frozen_credentials() != used:
                return True  # another request has found them meanwhile
            if self._fruitless == used and anyio.current_time() - self._fruitless_at < _PAUSE_SECONDS:
                return False
            self._fruitless = None
            try:
                # Left to itself when cancelled: they may be looked for where nobody answers.
                found, frozen = await in_daemon_thread(lambda: asyncio.run(self._look()))
            except Exception:
                self._fruitless, self._fruitless_at = used, anyio.current_time()
                raise
            if frozen in (None, used):
                self._fruitless, self._fruitless_at = used, anyio.current_time()
                return False
            self._found = found
            return True

    async def _look(self) -> tuple[Any, Any]:
        found = await self._find()
        return found, None if found is None else await _frozen(found)


async def _frozen(credentials: Any) -> Any:
    from botocore.exceptions import CredentialRetrievalError

    try:
        return await credentials.get_frozen_credentials()
    except RuntimeError as error:  # "Credentials were refreshed, but the refreshed credentials are still expired."
        raise CredentialRetrievalError(provider=credentials.method, error_msg=str(error)) from error


def has_expired(answer: Mapping[str, Any]) -> bool:
    """Whether a refusal may mean that the credentials were good once."""
    code = str(answer.get("Error", {}).get("Code", ""))
    return code in _EXPIRED or code in _EXPIRED_WITHOUT_A_WORD


async def found_anew(session: Any) -> Any:
    """Give the credentials that a session of the user's own has now.

    What was set in the session is taken as it stands; what it has found itself it looks for again.
    """
    credentials = await session.get_credentials()
    if credentials is None or credentials.method == "explicit":
        return credentials
    return await session.get_component("credential_provider").load_credentials()
