"""Law: docs/edge-bundle.md is enough to write a reader; `Reader` uses nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tokenizers import Tokenizer

PAGE = (Path(__file__).parents[2] / "docs" / "edge-bundle.md").read_text()


class Reader:
    """A text classifier, read as the page says."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}
            assert all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist())
        self.manifest = json.loads(self.files["manifest.json"])
        assert self.manifest["schema_version"] == 1
        listed = self.manifest["files"]
        assert set(self.files) - {"manifest.json", "manifest.sig"} == set(listed)
        for name, digest in listed.items():
            assert hashlib.sha256(self.files[name]).hexdigest() == digest
        self.preprocess = self.manifest["preprocess"]
        self._tokenizer = Tokenizer.from_str(self.files[self.preprocess["tokenizer"]].decode())
        self._tokenizer.no_padding()
        self._interpreter = Interpreter(model_content=self.files["model.tflite"])
        golden = json.loads(self.files["golden.json"])
        for text, expected in zip(golden["texts"], golden["logits"], strict=True):
            assert np.abs(self.logits(text) - expected).max() <= golden["tolerance"]

    def logits(self, text: str) -> Any:
        buckets = self.preprocess["buckets"]
        self._tokenizer.enable_truncation(buckets[-1])
        ids = self._tokenizer.encode(text).ids
        columns = next(each for each in buckets if each >= len(ids))
        filling = columns - len(ids)
        given = {
            "input_ids": np.asarray([ids + [self.preprocess["pad_id"]] * filling], np.int32),
            "attention_mask": np.asarray([[1] * len(ids) + [0] * filling], np.int32),
        }
        return self._interpreter.get_signature_runner(f"tokens_{columns}")(**given)["logits"][0]

    def label(self, text: str) -> str:
        return str(self.manifest["labels"][int(self.logits(text).argmax())])


@pytest.mark.parametrize("text", ["a good film", "awful", "the plot is dull . " * 9])
def test_a_reader_written_from_the_page_answers_as_ours(bundle: Path, text: str) -> None:
    from edge.runner import EdgeRunner

    assert Reader(bundle).label(text) == EdgeRunner.open(bundle).predict(text)[0].label


def test_a_signature_is_checked_as_the_page_says(bundle: Path, tmp_path: Path) -> None:
    from bundle import signing
    from edge import package

    private, public = signing.generate(tmp_path / "publisher")
    path = Path(shutil.copy(bundle, tmp_path))
    package.sign(path, signing.SigningKey.read(private))
    reader = Reader(path)
    told = json.loads(reader.files["manifest.sig"])
    key: Any = load_pem_public_key(public.read_bytes())
    assert told["key_id"] == hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
    message = b"tensorseek manifest\n" + reader.files["manifest.json"]
    key.verify(base64.b64decode(told["signature"]), message)  # raises if it is wrong


def test_the_page_tells_of_every_field(bundle: Path) -> None:
    told = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", PAGE))))
    found = Reader(bundle).manifest
    fields = {*found, *found["edge"], *found["preprocess"]}
    assert fields <= told, fields - told
