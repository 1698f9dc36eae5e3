"""Laws of answers: each example is asked once, as it would be alone, and answered in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bundle import preprocess
from bundle.manifest import ImagePreprocess
from bundle.preprocess import ImagePreprocessor
from bundle.repository import SavedBundle
from finetune import answers, labelled
from finetune.errors import EvaluationError
from finetune.labelled import Labelled
from finetune.progress import Silent


def test_a_savedmodel_answers_each_text_as_if_it_were_alone(
    publish_tiny: Any, tiny_answer: Callable[[str], Any], tmp_path: Path
) -> None:
    saved = publish_tiny(tmp_path)
    texts = tuple(" ".join(["a", "film"][: n % 3] + ["good"] * (n % 20)) for n in range(1, 150))
    data = Labelled(inputs=texts, labels=np.zeros(len(texts), np.int32))
    preprocessor = preprocess.create(saved.manifest.preprocess, saved.read)
    found = answers.logits(answers.forward(saved), preprocessor, data, Silent())
    expected = np.stack([tiny_answer(text) for text in texts])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_pictures_are_answered_in_their_order(tmp_path: Path) -> None:
    for index in range(70):
        path = tmp_path / f"label{index % 2}" / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (index, 2 * index, 0)).save(path)
    preprocessor = ImagePreprocessor(ImagePreprocess(height=4, width=4))
    data = labelled.read(tmp_path, ("label0", "label1"), preprocessor, {})
    shapes = []

    def forward(pixels: Any) -> dict[str, Any]:
        shapes.append(tuple(pixels.shape))
        return {"logits": tf.cast(pixels[:, 0, 0, :2], tf.float32)}

    found = answers.logits(forward, preprocessor, data, Silent())
    order = [*range(0, 70, 2), *range(1, 70, 2)]
    assert found.tolist() == [[index, 2 * index] for index in order]
    assert shapes == [(64, 4, 4, 3), (6, 4, 4, 3)]


def test_a_savedmodel_without_the_served_function_is_named(
    tiny_manifest: Any, tmp_path: Path
) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(EvaluationError, match=rf"^{tmp_path}: has the signatures \[\], not"):
        answers.forward(SavedBundle(tmp_path, tiny_manifest))
