"""Law: a side that can't answer says why, and doesn't take the other down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorseek import stack
from tensorseek.demo.answers import Cloud, Edge


def test_a_cloud_that_is_away_is_a_sentence() -> None:
    address = f"127.0.0.1:{stack.free_ports().gateway}"
    answer = Cloud(address).answer("tiny", "a film")
    assert answer.scores == {}
    assert f"The cloud ({address}) is away" in answer.note


def test_the_edge_takes_up_a_new_version(
    tmp_path: Path, publish_tiny: Any, publish_tiny_edge: Any, tiny_answer: Any
) -> None:
    edge = Edge(tmp_path)
    assert "no model 'tiny'" in edge.answer("tiny", "a film").note
    saved = publish_tiny(tmp_path)
    assert "has no edge bundle" in edge.answer("tiny", "a film").note
    publish_tiny_edge(saved)
    assert edge.answer("tiny", "a film").note.startswith("version 1 · float32")
    publish_tiny_edge(publish_tiny(tmp_path, seed=1), seed=1)
    answer = edge.answer("tiny", "a film")
    assert answer.note.startswith("version 2")
    best = ("negative", "positive")[tiny_answer("a film", seed=1).argmax()]
    assert max(answer.scores, key=answer.scores.__getitem__) == best
