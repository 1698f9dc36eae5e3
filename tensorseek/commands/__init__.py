"""The commands, a module for each room they belong to; `cli` puts them together.

Each imports what it needs when it runs: `tensorseek edge run` must start without TensorFlow.
"""

from __future__ import annotations


def example(command: str) -> str:
    """The line that ends a command's help: an example that runs."""
    return f"Example: tensorseek {command}"
