"""What `serving_peers` compares its contenders on, written once: weights, tokenizer, sentences.

Run as a script with the folder. TensorFlow, which it needs, stays out of the process that measures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks import edge_latency_pytorch_weights, edge_models
from benchmarks.serving_peers_systems import SENTENCES, TOKENIZER
from bundle import atomic
from bundle.repository import SavedBundle
from finetune.export import candidate
from tensorseek.progress import TerminalProgress

_SURE = 0.01  # between the logits of two labels; below that rounding may decide


def main(folder: Path) -> None:
    """Writes the quickstart's model, which is trained unless it is there, as PyTorch takes it.

    `sentences.json` has the test split's sentences, each with the trained model's own label.
    """
    progress = TerminalProgress()
    saved = edge_models.movies(progress)[1]
    trained = candidate.of_version(saved, progress)
    edge_latency_pytorch_weights.write(trained.model.model, folder)
    atomic.write_bytes(folder / TOKENIZER, _tokenizer(saved))
    test = trained.data.test
    logits = np.asarray(trained.result.logits)
    low, high = np.sort(logits, axis=1)[:, -2:].T
    sentences = [
        {"text": trained.task.raw(test, place), "label": int(logits[place].argmax())}
        for place in np.flatnonzero(high - low > _SURE)
    ]
    atomic.write_bytes(folder / SENTENCES, json.dumps(sentences).encode())


def _tokenizer(saved: SavedBundle) -> bytes:
    spec = saved.manifest.preprocess
    tokenizer = Tokenizer.from_buffer(saved.read(spec.tokenizer))
    tokenizer.enable_truncation(spec.buckets[-1])
    tokenizer.enable_padding(pad_id=spec.pad_id)  # to the longest of the batch
    return tokenizer.to_str().encode()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
