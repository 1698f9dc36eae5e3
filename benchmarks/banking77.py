"""Questions to a bank, told apart by 77 intents: at least 0.90 of the test questions.

command   TENSORSEEK_DATA=<folder> make bench-banking77
machine   2 cores, no GPU; other work kept them busy too
date      2026-11-25
result    accuracy 0.9075 (3,080 test questions), macro_f1 0.9073, ece 0.0259; train_s 2189

    accuracy     share of the test questions whose intent the published model names
    dev_scores   the same of the dev questions, after each epoch; `report` draws the curve
    train_s      seconds of the training steps, without evaluation
"""

from __future__ import annotations

import json

from benchmarks import real_data, real_run


def main() -> None:
    """Trains, unless that was done, and prints one JSON line."""
    print(json.dumps(real_run.run("banking77", real_data.banking77, encoder=True)))


if __name__ == "__main__":
    main()
