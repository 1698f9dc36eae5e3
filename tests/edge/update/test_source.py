"""Laws of a source: a download is whole and as signed, or it is an error and goes on later."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import UpdateError
from edge.update.source import Source


class Web(http.server.ThreadingHTTPServer):
    """A web server that knows ranges, and breaks off after `limit` bytes of a body."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.limit: int | None = None
        self.ranges = True
        self.asked: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, asked = path.read_bytes(), self.headers.get("Range", "")
        self.server.asked.append(asked)
        start = int(asked[6:-1]) if asked and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.limit])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(publisher: Any) -> Iterator[Web]:
    server = Web(publisher.folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def address(web: Web) -> str:
    return f"http://127.0.0.1:{web.server_address[1]}"


def test_a_folder_and_an_address_give_the_same(
    publisher: Any, address: str, tmp_path: Path
) -> None:
    offered = publisher.offer(2)
    near, far = Source(str(publisher.folder)), Source(address)
    assert near.index() == far.index()
    for place, source in enumerate((near, far)):
        target = tmp_path / str(place)
        source.download(offered, target)
        assert target.read_bytes() == (publisher.folder / offered.file).read_bytes()


def test_a_download_that_broke_off_goes_on_where_it_stopped(
    publisher: Any, web: Web, address: str, tmp_path: Path
) -> None:
    offered = publisher.offer(2)
    target = tmp_path / "part"
    web.limit = 1000
    with pytest.raises(UpdateError, match=r"ended after 1000 of \d+ bytes; try again|can't be"):
        Source(address).download(offered, target)
    assert target.stat().st_size == 1000
    web.limit = None
    Source(address).download(offered, target)
    assert target.read_bytes() == (publisher.folder / offered.file).read_bytes()
    assert web.asked == ["", "bytes=1000-"]


def test_a_server_without_ranges_sends_it_all_again(
    publisher: Any, web: Web, address: str, tmp_path: Path
) -> None:
    offered = publisher.offer(2)
    target = tmp_path / "part"
    target.write_bytes(b"x" * 1000)  # of something else
    web.ranges = False
    Source(address).download(offered, target)
    assert target.read_bytes() == (publisher.folder / offered.file).read_bytes()


def test_a_file_that_is_not_the_signed_one_is_refused_and_not_kept(
    publisher: Any, tmp_path: Path
) -> None:
    offered = publisher.offer(2)
    path = publisher.folder / offered.file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UpdateError, match=r"has SHA-256 \w+, its index says \w+; publish it"):
        Source(str(publisher.folder)).download(offered, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_longer_file_than_signed_is_not_read_to_its_end(publisher: Any, tmp_path: Path) -> None:
    offered = publisher.offer(2)
    with (publisher.folder / offered.file).open("ab") as file:
        file.write(b"x" * 100_000)
    Source(str(publisher.folder)).download(offered, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size == offered.size_bytes


@pytest.mark.parametrize("address", ["nowhere", "ftp://host/x", "file:///etc"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(UpdateError, match="is neither a folder nor an http:// address"):
        Source(address)


def test_what_is_not_there_is_named(publisher: Any, web: Web, address: str) -> None:
    for where in (str(publisher.folder), address):
        with pytest.raises(UpdateError, match=r"/index\.json: can't be read: "):
            Source(where).index()


def test_an_index_that_is_too_large_is_refused(publisher: Any) -> None:
    (publisher.folder / "index.json").write_bytes(b" " * 70_000)
    with pytest.raises(UpdateError, match="over 65536 bytes: is no index"):
        Source(str(publisher.folder)).index()
