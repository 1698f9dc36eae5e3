"""Laws of the model card: a person finds the figures with how sure they are, and the limits."""

from __future__ import annotations

from typing import Any

from bundle.manifest import Manifest
from finetune.export import card


def test_the_published_card_tells_figures_and_limits(published: Any) -> None:
    saved = published.outcome.saved
    text = saved.read(card.FILE_NAME).decode()
    accuracy = saved.manifest.metrics["accuracy"]
    assert text.startswith("# tiny\n")
    assert "- Labels: negative, positive\n" in text
    assert "- Input: text of at most 1000 characters, read to the first 16 tokens\n" in text
    interval = f"{accuracy.low:.3f} to {accuracy.high:.3f}"
    assert f"| accuracy | {accuracy.value:.4g} | {interval} | 96 |\n" in text
    assert saved.manifest.provenance.base_model_sha256[:16] in text


def test_a_model_without_metrics_has_a_card_too(tiny_manifest: Manifest) -> None:
    text = card.render(tiny_manifest)
    assert text.endswith("try your own first.\n")
    assert "None" not in text
