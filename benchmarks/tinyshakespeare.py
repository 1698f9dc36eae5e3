"""A small language model on Shakespeare's plays, from random weights.

command   TENSORSEEK_DATA=<folder> make bench-tinyshakespeare
machine   2 cores, no GPU; other work kept them busy too
date      2026-11-25
result    perplexity 44.3, bits_per_byte 2.454; on dev 36.8 and 2.302; train_s 679

    perplexity      of the test part's tokens; how much it is depends on the vocabulary
    bits_per_byte   the same without the vocabulary: log2 of the perplexity, times tokens a byte
    dev_scores      mean log-likelihood of a dev token, in nats, after each epoch
    train_s         seconds of the training steps, without evaluation
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks import real_data, real_run
from bundle.repository import EXTRA

_NAME = "tinyshakespeare"


def main() -> None:
    """Trains, unless that was done, and prints one JSON line."""
    figures = real_run.run(_NAME, real_data.tinyshakespeare)
    bits = math.log2(figures["perplexity"]) * tokens_a_byte(Path(figures["path"]), _NAME)
    print(json.dumps({**figures, "bits_per_byte": round(bits, 4)}))


def tokens_a_byte(version: Path, recipe: str) -> float:
    """Of the test part, by the tokenizer of a published version."""
    text = Path("data", recipe, "test.txt").read_bytes()
    tokenizer = Tokenizer.from_file(str(version / EXTRA / "tokenizer.json"))
    tokens = tokenizer.encode(text.decode())
    return len(tokens.ids) / len(text)


if __name__ == "__main__":
    main()
