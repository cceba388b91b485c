"""How does a test look at a page as a person does? In Debian's Chromium, without a window, over the DevTools protocol.

The protocol runs over two pipes, so it takes no port, no driver program and no library. Chromium has a new profile in a
temporary directory, is told to ask nobody for anything, and has the parent-death signal, so nothing stays behind.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = {"chromium": "chromium", "setpriv": "util-linux", "bash": "bash"}
"""The programs that are needed, and the Debian packages that have them."""

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--no-default-browser-check", "--no-proxy-server", "--remote-debugging-pipe",
)  # fmt: skip
_SECONDS = 60.0
"""How long an answer may take."""


class ChromiumError(RuntimeError):
    """Chromium ended, did not answer, or says that it can't do something."""


def missing_packages() -> list[str]:
    """Give the Debian packages that would have to be installed."""
    return sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})


@contextlib.contextmanager
def running_chromium() -> Iterator[Chromium]:
    """Start Chromium; end it, and all that it has started, at the end."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as directory:
        (to_read, to_write), (from_read, from_write) = _pipe(), _pipe()
        log_path = Path(directory) / "log"
        chromium = ["chromium", *_FLAGS, f"--user-data-dir={directory}/profile", "about:blank"]
        # It reads commands from descriptor 3 and writes answers to 4.
        redirected = f'exec "$@" 3<&{to_read} 4>&{from_write} {to_read}<&- {from_write}>&-'
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "bash", "-c", redirected, "bash", *chromium],
                env={**os.environ, "HOME": directory},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(to_read, from_write),
                start_new_session=True,
            )
        os.close(to_read)
        os.close(from_write)
        try:
            yield Chromium(to_write, from_read, log_path)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
            os.close(to_write)
            os.close(from_read)


def _pipe() -> tuple[int, int]:
    """Make a pipe whose descriptors are none of those that Chromium is to find it at."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


class Chromium:
    """The running browser: sends commands, and keeps the events that come meanwhile."""

    def __init__(self, to_browser: int, from_browser: int, log_path: Path) -> None:
        self._to, self._from, self._log = to_browser, from_browser, log_path
        self._received = b""
        self._last_id = 0
        self.events: dict[str, list[dict[str, Any]]] = {}
        """By the session of a tab."""

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        sent = json.dumps(message).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._to, sent) :]
        deadline = time.monotonic() + _SECONDS
        while (answer := self._next(deadline, method)).get("id") != self._last_id:
            pass
        if "error" in answer:
            raise ChromiumError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, event: str, session: str, *, after: int) -> None:
        """Wait until something has happened in a tab, after that many other events."""
        deadline = time.monotonic() + _SECONDS
        while all(one["method"] != event for one in self.events.get(session, [])[after:]):
            self._next(deadline, event)

    def _next(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._from, 1 << 20) if ready else b""
            if not chunk:
                log = self._log.read_text(errors="replace")[-2000:]
                raise ChromiumError(f"{'it ended' if ready else 'no answer'}, waiting for {waiting_for}:\n{log}")
            self._received += chunk
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message and "sessionId" in message:
            self.events.setdefault(message["sessionId"], []).append(message)
        return message

    @contextlib.contextmanager
    def tab(self, *, width: int = 1280, has_script: bool = True, **features: str) -> Iterator[Tab]:
        """Give a tab of its own, which has the focus.

        Args:
            width: of the window; a narrow one is a phone's.
            has_script: whether the page may run JavaScript.
            **features: what the person prefers: `color_scheme="dark"`, `reduced_motion="reduce"`.
        """
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.command("Browser.grantPermissions", permissions=["clipboardReadWrite"], browserContextId=context)
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.command(f"{domain}.enable")
        tab.resize(width, 844 if width < 500 else 800)
        tab.prefer(**features)
        tab.command("Emulation.setFocusEmulationEnabled", enabled=True)
        tab.command("Emulation.setScriptExecutionDisabled", value=not has_script)
        try:
            yield tab
        finally:
            self.command("Target.disposeBrowserContext", browserContextId=context)
            self.events.pop(session, None)


class Tab:
    """One page in the browser."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.command(method, self._session, **parameters)

    @property
    def events(self) -> list[dict[str, Any]]:
        return self._browser.events.setdefault(self._session, [])

    def resize(self, width: int, height: int, *, scale: float = 1) -> None:
        is_phone = width < 500
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=is_phone
        )

    def prefer(self, *, media: str = "", **features: str) -> None:
        """Be a person who prefers something, or a printer."""
        listed = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", media=media, features=listed)

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        before = len(self.events)
        answer = self.command("Page.navigate", url=url)
        if "errorText" in answer:
            raise ChromiumError(f"{url}: {answer['errorText']}")
        if "loaderId" in answer:  # else only what is behind the # is another one
            self._browser.wait_for("Page.loadEventFired", self._session, after=before)

    def evaluate(self, expression: str) -> Any:
        """Run JavaScript in the page, as a person with DevTools would; give its value."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise ChromiumError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def type(self, text: str) -> None:
        """Write into what has the focus."""
        self.command("Input.insertText", text=text)

    def press(self, key: str, *, code: int = 0, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.command("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def click(self, selector: str) -> None:
        """Press the left button over the middle of an element."""
        middle = "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect()"
        found = f"const e = document.querySelector({json.dumps(selector)}); {middle}"
        x, y = self.evaluate(f"(() => {{ {found}; return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        answer = self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    @property
    def requests(self) -> list[str]:
        """The URLs that the page has asked for, its own included."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    @property
    def complaints(self) -> list[str]:
        """What the console has: errors, warnings, refusals of the page's policy, exceptions."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in methods]
