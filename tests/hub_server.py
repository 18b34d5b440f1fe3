"""A server on this machine that speaks the hub's protocol, and one that does not keep to it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves `content` at every address, unless it misbehaves."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.misbehaves = ""
        """A status, or what happens in place of an answer, or, for the words with `body` below, of the body."""
        self.asked: list[str] = []
        self.closed = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        server = self.server
        server.asked.append(f"{self.command} {self.path}")
        try:
            self._answer_as(server.misbehaves, server.content, body)
        except (BrokenPipeError, ConnectionResetError):  # the other side gave up
            self.close_connection = True

    def _answer_as(self, kind: str, content: bytes, body: bool) -> None:
        server = self.server
        if kind == "silent":
            server.closed.wait(60)
        elif kind == "drips":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not server.closed.wait(0.5):
                self.wfile.write(b"X-More: 1\r\n")
        elif kind == "wants a token" and "Authorization" not in self.headers:
            self._send(401, b"no", "text/plain", body)
        elif body and kind == "later 429":
            self.send_response(429)
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif body and kind == "slow":
            self._headers(200, content, "application/octet-stream")
            for start in range(0, len(content), len(content) // 5):
                self.wfile.write(content[start : start + len(content) // 5])
                self.wfile.flush()
                server.closed.wait(0.6)
        elif kind.isdecimal():
            self._send(int(kind), b"no", "text/plain", body)
        elif kind == "html":
            self._send(200, b"<html>sign in</html>", "text/html; charset=utf-8", body)
        elif body and kind == "damaged":
            self._send(200, b"x" * len(content), "application/octet-stream", body)
        elif body and kind in ("stalls", "truncated"):
            self._headers(200, content, "application/octet-stream")
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if kind == "stalls":
                server.closed.wait(60)
            self.close_connection = True
        else:
            self._send(200, content, "application/octet-stream", body)

    def _send(self, status: int, content: bytes, kind: str, body: bool) -> None:
        self._headers(status, content, kind)
        if body:
            self.wfile.write(content)

    def _headers(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        digest = hashlib.sha256(self.server.content).hexdigest()
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Linked-ETag", f'"{digest}"')
        self.send_header("X-Linked-Size", str(len(self.server.content)))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(content: bytes) -> Iterator[HubServer]:
    server = HubServer(content)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
