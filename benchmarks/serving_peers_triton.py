"""A contender of `serving_peers`: Triton under PyTriton, in an environment of its own.

Run as a script with the model's folder, threads, port of HTTP, largest batch, wait in
milliseconds and workers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from serving_peers_classifier import Classifier


def main(
    folder: Path, threads: int, port: int, max_batch: int, wait_ms: float, workers: int
) -> None:
    """Serves until it is ended."""
    classifier = Classifier(folder, threads)

    @batch
    def infer(text: Any) -> list[Any]:
        texts = [each.decode() for each in text[:, 0]]
        return [np.array(classifier(texts), np.float32)]

    config = TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classifier",
            infer_func=[infer] * workers,
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="scores", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=max_batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(wait_ms * 1e3)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    _, model, *numbers, wait, workers = sys.argv
    main(Path(model), *map(int, numbers), float(wait), int(workers))
