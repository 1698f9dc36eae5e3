"""A contender of `serving_peers`: LitServe, in an environment of its own.

Run as a script with the model's folder, threads, port, largest batch, wait in milliseconds
and workers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve
from serving_peers_classifier import Classifier


class Api(litserve.LitAPI):
    """{"text": …} → {"scores": […]}."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Loads the model, in the worker's process."""
        self._classifier = Classifier(Path(sys.argv[1]), int(sys.argv[2]))

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # a type would be obeyed
        """The text of a request."""
        return request["text"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Texts that go together."""
        return inputs

    def predict(self, x: list[str]) -> list[list[float]]:
        """Answers a batch."""
        return self._classifier(x)

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """The answers one by one."""
        return output

    def encode_response(self, output: list[float]) -> Any:
        """An answer as it is sent."""
        return {"scores": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=int(sys.argv[4]), batch_timeout=float(sys.argv[5]) / 1e3),
        accelerator="cpu",
        workers_per_device=int(sys.argv[6]),
        timeout=60,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[3]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
