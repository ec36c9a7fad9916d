"""A web server on the loopback that sends parts of files, and fails on request."""

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A GET: the file, the first byte and the one behind the last."""

    name: str
    start: int
    end: int


class RangeServer(ThreadingHTTPServer):
    """Serves a folder. latency: seconds before each answer. fixed: answers by their paths."""

    daemon_threads = True

    def __init__(
        self,
        folder: Path,
        *,
        ranges: bool = True,
        latency: float = 0,
        fixed: Mapping[str, bytes] = {},
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.ranges, self.latency, self.fixed = folder, ranges, latency, fixed
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[Asked] = []
        self.failures: list[int] = []
        """What the next requests are answered with."""
        self.sent = 0
        """Bytes of content."""
        self._sockets: list[socket.socket] = []

    def get_request(self) -> Any:
        found = super().get_request()
        self._sockets.append(found[0])
        return found

    def hang_up(self) -> None:
        """End all connections that are open."""
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go at any time."""


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as servers do; else small answers wait for 40 ms

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        time.sleep(self.server.latency)
        path = self.server.folder / self.path.partition("?")[0].strip("/")
        if self.server.failures:
            return self._send(self.server.failures.pop(0), b"", {})
        if fixed := self.server.fixed.get(self.path.partition("?")[0]):
            return self._send(200, fixed, {"Content-Type": "application/json"})
        if path.is_dir():
            names = "".join(f'<a href="{p.name}">{p.name}</a>' for p in sorted(path.iterdir()))
            return self._send(200, names.encode(), {"Content-Type": "text/html"})
        if not path.is_file():
            return self._send(404, b"", {})
        data, (start, end) = path.read_bytes(), self._range()
        headers = {"ETag": f'"{path.stat().st_mtime_ns}"'}
        if self.command == "HEAD":
            return self._send(200, data, headers)
        if start >= len(data):
            return self._send(416, b"", headers)
        end = len(data) if end is None else min(end, len(data))
        self.server.asked.append(Asked(path.name, start, end))
        if (start, end) != (0, len(data)):
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self._send(206 if "Content-Range" in headers else 200, data[start:end], headers)

    def _range(self) -> tuple[int, int | None]:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        return (int(match[1]), int(match[2]) + 1) if match and self.server.ranges else (0, None)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            self.server.sent += len(data)


@contextmanager
def serve(folder: Path, **how: Any) -> Iterator[RangeServer]:
    """A server that runs in a thread."""
    with RangeServer(folder, **how) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            server.hang_up()
            thread.join()
