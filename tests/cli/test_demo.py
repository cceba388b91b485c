"""`catalog demo`: a story that is true, whatever the user's environment, and that leaves nothing behind."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from datacachalog.cli import _demo_data, _demo_server, _demo_story

COMMAND = [sys.executable, "-c", "from datacachalog.cli import main; main()", "demo"]

# None of it is meant for the demo, and each of it would stop it.
HOSTILE_ENVIRONMENT = {
    "AWS_PROFILE": "nobody",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_REGION": "nowhere",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "DATACACHALOG_OFFLINE": "1",
    "DATACACHALOG_PART_BYTES": "nonsense",
}


@dataclass(frozen=True, slots=True)
class Run:
    returncode: int
    stdout: str
    stderr: str
    left_behind: list[str]


def environment(temporary_dir: Path) -> dict[str, str]:
    plain = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")
    }
    return plain | HOSTILE_ENVIRONMENT | {"TMPDIR": str(temporary_dir)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run in a pipe."""
    temporary_dir = tmp_path_factory.mktemp("tmp")
    done = subprocess.run(
        COMMAND, env=environment(temporary_dir), capture_output=True, text=True, timeout=100, check=False
    )
    return Run(done.returncode, done.stdout, done.stderr, [path.name for path in temporary_dir.iterdir()])


def test_the_demo_ends_well_in_a_hostile_environment(run: Run) -> None:
    """Profiles, endpoints, proxies and settings of the user's don't reach the demo."""
    assert 0 == run.returncode, run.stderr


@pytest.mark.parametrize(
    "told",
    [
        r"12 datasets, 15 files, 74\.1 MB, served at http://127\.0\.0\.1:\d+\n",
        r"15 files, 74\.1 MB in .* requests\n",
        r"nothing downloaded, 12 datasets confirmed in \d+ ms, \d+ requests?\n",
        r"customers: 1\.4 MB downloaded, ",
        r"the other 11 are still right; ",
        r"25001 +\w+ \w+ .*\n.*the last 3 of 25,001 rows",
        r"customers\.csv  1\.4 MB",
        r"2026-01\.parquet … 2026-04\.parquet  4 files, 12\.5 MB",
    ],
)
def test_the_demo_shows_what_happened(run: Run, told: str) -> None:
    """Each step says what was downloaded and what wasn't, as the report has it."""
    assert re.search(told, run.stdout)


def test_the_output_in_a_pipe_is_plain_text_of_80_columns(run: Run) -> None:
    """No colours, nothing that moves a cursor, and no line longer than a small terminal's."""
    assert [] == [line for line in run.stdout.splitlines() if len(line.rstrip()) > 80 or "\x1b" in line or "\r" in line]


def test_the_server_says_nothing(run: Run) -> None:
    """The progress is all that is on stderr; the embedded server's log isn't shown."""
    assert not re.search("werkzeug|HTTP/1|Running on|Warning", run.stderr)


def test_the_demo_leaves_nothing_behind(run: Run) -> None:
    """The temporary directory is removed at the end."""
    assert [] == run.left_behind


def test_the_script_ends_the_story(run: Run) -> None:
    """The reader finds the whole script at the end, without an indent, to copy it."""
    assert run.stdout.endswith(f"\n{_demo_story.SCRIPT}")


def test_the_script_is_ten_lines_that_fit(run: Run) -> None:
    """What the reader takes home is short."""
    lines = ast.unparse(ast.parse(_demo_story.SCRIPT)).splitlines()

    assert (True, True) == (len(lines) <= 10, max(map(len, _demo_story.SCRIPT.splitlines())) <= 80)


def test_the_script_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the reader takes home works as it stands, for whoever has such a bucket."""
    monkeypatch.setattr(_demo_server, "BUCKET", "your-bucket")
    with _demo_server.running_server() as server:
        for key in ("crm/customers.csv", "sensors/1.parquet", "sensors/2.parquet"):
            server.put(key, key.encode())
        account = {"AWS_ENDPOINT_URL_S3": server.endpoint_url, "XDG_CACHE_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", _demo_story.SCRIPT],
            env=os.environ | account,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    contents = [Path(line).read_bytes() for line in done.stdout.splitlines()]
    assert [b"crm/customers.csv", b"sensors/1.parquet", b"sensors/2.parquet"] == contents


def test_the_data_is_the_same_in_every_run() -> None:
    """The datasets are made of seeded noise, so that figures can be compared."""
    assert list(_demo_data.make_datasets()) == list(_demo_data.make_datasets())


def test_a_kept_cache_holds_the_files(tmp_path: Path) -> None:
    """`--keep DIR` leaves the cache where it was asked for, and the demo says where."""
    kept = tmp_path / "kept"
    command = [*COMMAND, "--keep", str(kept)]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=100, check=False)

    newest = _demo_data.customers(_demo_data.CUSTOMERS + 1)
    assert (True, newest) == (
        f"still there: {kept}\n" in done.stdout,
        (kept / "acme-lake/crm/customers.csv").read_bytes(),
    )


def test_a_directory_with_something_in_it_is_not_taken(tmp_path: Path) -> None:
    """The demo starts with an empty cache, and touches nothing that is already there."""
    (tmp_path / "mine.txt").touch()
    done = subprocess.run([*COMMAND, "--keep", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)

    assert (2, ["mine.txt"]) == (done.returncode, [path.name for path in tmp_path.iterdir()])


@pytest.mark.parametrize("line", ["datacachalog", "1  An empty cache", "2  Once more"])
def test_ctrl_c_ends_the_demo_quietly(tmp_path: Path, line: str) -> None:
    """Ctrl-C at any step: exit code 130, no traceback, and the temporary directory is gone."""
    with subprocess.Popen(
        COMMAND, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not process.stdout.readline().startswith(line):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)

    assert (130, False, []) == (process.returncode, "Traceback" in stderr, list(tmp_path.iterdir()))
