"""Where releases come from: a folder (a share, a memory card), or an HTTP address.

A download goes on where it stopped: what is there already is kept, the rest is asked for.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bundle import integrity
from edge.errors import UpdateError
from edge.update.release import FILE_NAME, MAX_BYTES, Release

_TIMEOUT_S = 30.0  # without a byte
_CHUNK_BYTES = 1 << 16


class Stream(Protocol):
    """Bytes to be read."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` of them; none at the end."""
        ...


class Source:
    """A publisher's folder.

    Args:
        address: a folder, or an `http://` or `https://` address of one.

    Raises:
        UpdateError: it is neither.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        scheme = urllib.parse.urlsplit(address).scheme
        self._is_remote = scheme in ("http", "https")
        if not self._is_remote and not Path(address).is_dir():
            raise UpdateError(f"{address}: is neither a folder nor an http:// address")

    def index(self) -> bytes:
        """The index as it is, unverified.

        Raises:
            UpdateError: it can't be had, or is too large.
        """
        with self._open(FILE_NAME, 0) as (stream, _):
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UpdateError(f"{self.address}/{FILE_NAME}: over {MAX_BYTES} bytes: is no index")
        return data

    def download(self, release: Release, target: Path) -> None:
        """Completes `target`, which may hold a part already, to the release's bundle.

        Raises:
            UpdateError: it can't be had, or is not what the index says. In the second case
                nothing is left of it, in the first what came stays.
        """
        kept = target.stat().st_size if target.exists() else 0
        if kept < release.size_bytes:
            with self._open(release.file, kept) as (stream, start), target.open("ab") as file:
                file.truncate(start)
                left = release.size_bytes - start
                while left and (chunk := stream.read(min(_CHUNK_BYTES, left))):
                    file.write(chunk)
                    left -= len(chunk)
        size = target.stat().st_size
        if size < release.size_bytes:
            raise UpdateError(
                f"{self.address}/{release.file}: ended after {size} of {release.size_bytes} bytes; "
                "try again"
            )
        found = integrity.sha256_file(target)
        if found != release.sha256:
            target.unlink()
            raise UpdateError(
                f"{self.address}/{release.file}: has SHA-256 {found}, its index says "
                f"{release.sha256}; publish it again"
            )

    @contextmanager
    def _open(self, name: str, start: int) -> Iterator[tuple[Stream, int]]:
        """A file from `start` on, or from wherever it can be had: the stream, and from where."""
        try:
            if not self._is_remote:
                with Path(self.address, name).open("rb") as file:
                    file.seek(start)
                    yield file, start
                return
            url = f"{self.address.rstrip('/')}/{urllib.parse.quote(name)}"
            ranged = {"Range": f"bytes={start}-"} if start else {}
            request = urllib.request.Request(url, headers=ranged)  # noqa: S310 (http or https)
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                yield answer, start if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise UpdateError(f"{self.address}/{name}: can't be read: {reason}") from error
