"""A PostgreSQL server for tests alone: in a temporary folder, on a free port, as a user that is not root."""

from __future__ import annotations

import glob
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "nas", "s3cret-Pa55w0rd"
FLAGS = ["fsync=off", "max_connections=120", "max_wal_senders=0", "wal_level=minimal"]


def program(name: str) -> str | None:
    """Debian keeps the server's programs off the PATH."""
    return shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None)


class Server:
    """A running server; `url` has the password, `bare_url` has none."""

    def __init__(self, folder: Path):
        self._folder, self._as = folder, _other_user()
        self.port = _free_port()
        if self._as:
            account = pwd.getpwnam(self._as["user"])
            os.chown(folder, account.pw_uid, account.pw_gid)
        (folder / "password").write_text(PASSWORD)
        os.chmod(folder / "password", 0o644)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--pwfile", str(folder / "password"),
            "--no-sync", "--no-locale", "-E", "UTF8",
        )  # fmt: skip
        self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def bare_url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k '' -h 127.0.0.1 " + " ".join(f"-c {flag}" for flag in FLAGS)
        self._run("pg_ctl", "-D", self._data, "-l", str(self._folder / "log"), "-o", options, "-w", "start")

    def stop(self, how: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self._data, "-m", how, "-w", "stop")

    def drop_all(self) -> None:
        """An empty database again."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def _run(self, name: str, *args: str) -> None:
        found = program(name)
        assert found is not None
        # not captured: the server would hold the pipe open
        with open(self._folder.parent / f"{self._folder.name}.out", "ab") as out:
            subprocess.run([found, *args], check=True, stdout=out, stderr=out, cwd="/", timeout=60, **self._as)


def _free_port() -> int:
    """Below those that the system gives to clients: one of them could take it while the server restarts."""
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) != 0:
                return port


def _other_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    known = {entry.pw_name for entry in pwd.getpwall()}
    name = "postgres" if "postgres" in known else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


@contextmanager
def running_server() -> Iterator[Server]:
    """A server for the length of the block; the test is skipped where PostgreSQL or its driver is missing."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'mnas[postgresql]'")
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="mnas-postgresql-"))
    try:
        server = Server(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.out").unlink(missing_ok=True)
