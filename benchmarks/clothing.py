"""Photos of clothes in 10 kinds, several scales, from random weights and 900 photos.

command   TENSORSEEK_DATA=<folder> make bench-clothing
machine   2 cores, no GPU; other work kept them busy too
date      2026-11-25
result    accuracy 0.507 (225 test photos), macro_f1 0.488, ece 0.156, best_epoch 48 of 60; train_s
          460. Dev accuracy rises no more after epoch 48

    accuracy     share of the test photos whose kind the published model names
    dev_scores   the same of 100 dev photos, after each epoch; `report` draws the curve
    train_s      seconds of the training steps, without evaluation
"""

from __future__ import annotations

import json

from benchmarks import real_data, real_run


def main() -> None:
    """Trains, unless that was done, and prints one JSON line."""
    print(json.dumps(real_run.run("clothing", real_data.clothing)))


if __name__ == "__main__":
    main()
