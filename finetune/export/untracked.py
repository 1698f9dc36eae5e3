"""A Keras model behind a graph of ours, hidden from TensorFlow."""

from __future__ import annotations

from typing import Any


class Untracked:
    """Holds a model that would else be saved with the graph, each of its layers traced: seconds.

    Who hides a model must hold its variables itself.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
