"""Laws of notification: an address gets the JSON posted, a command reads it; failures are told."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorseek.errors import NotifyError
from tensorseek.notify import notify


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.headers["Content-Type"], body))
        self.send_response(200 if self.path == "/hook" else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Hook.received = []
    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_gets_the_message(address: str) -> None:
    notify(f"{address}/hook", b'{"verdict": "published"}')
    assert Hook.received == [("application/json", b'{"verdict": "published"}')]


def test_an_address_that_refuses_is_told(address: str) -> None:
    with pytest.raises(NotifyError, match="500"):
        notify(f"{address}/nowhere", b"{}")


def test_a_command_reads_the_message(tmp_path: Path) -> None:
    script = tmp_path / "hook.py"
    script.write_text(f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.read())")
    notify(f"{sys.executable} {script}", b'{"a": 1}')
    assert (tmp_path / "got").read_text() == '{"a": 1}'


@pytest.mark.parametrize("command", ["false", "no-such-command", 'unclosed "quote'])
def test_a_command_that_fails_is_told(command: str) -> None:
    with pytest.raises(NotifyError, match="--notify"):
        notify(command, b"{}")
