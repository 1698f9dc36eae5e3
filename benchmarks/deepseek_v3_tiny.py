"""A small DeepSeek-V3 on Shakespeare's plays, from random weights: latent attention and experts.

command   TENSORSEEK_DATA=<folder> make bench-deepseek-v3-tiny
machine   2 cores, no GPU
date      2026-11-25
result    perplexity 34.5, bits_per_byte 2.29, max_violation at most 0.01, train_s 832 (of 3,263
          blocks of 128 tokens, 6 epochs; other work shared the machine)

    perplexity      of the test part's tokens
    bits_per_byte   the same without the vocabulary: log2 of the perplexity, times tokens a byte
    dev_scores      mean log-likelihood of a dev token, in nats, after each epoch
    max_violation   of each block's experts in the last epoch: by how much the busiest one's share
                    exceeds the mean; 0 is even
    train_s         seconds of the training steps, without evaluation
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from benchmarks import real_data, real_run
from benchmarks.tinyshakespeare import tokens_a_byte

_NAME = "deepseek-v3-tiny"


def main() -> None:
    """Trains, unless that was done, and prints one JSON line."""
    figures = real_run.run(_NAME, real_data.tinyshakespeare)
    shares = figures.pop("expert_shares")
    bits = math.log2(figures["perplexity"]) * tokens_a_byte(Path(figures["path"]), _NAME)
    busiest = {block: round(max(each) * len(each) - 1, 3) for block, each in shares.items()}
    print(json.dumps({**figures, "bits_per_byte": round(bits, 4), "max_violation": busiest}))


if __name__ == "__main__":
    main()
