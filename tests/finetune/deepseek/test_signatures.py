"""Law: prefill and decode, in any pieces, give what generate gives; also after a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import checkpoint, signatures
from finetune.deepseek.generate import Generator
from finetune.deepseek.sampling import Settings

GOLDEN = Path(__file__).parent / "golden"
END = 1
IDS = np.asarray([[0, 0, 7, 3, 50], [9, 2, 30, 4, 4], [0, 0, 0, 0, 8]], np.int32)
MASK = np.asarray([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], np.int32)
SETTINGS = {
    "temperature": np.asarray([1.3, 0.0, 1.0], np.float32),
    "top_k": np.asarray([0, 0, 9], np.int32),
    "top_p": np.asarray([0.9, 1.0, 1.0], np.float32),
    "repetition_penalty": np.asarray([1.0, 1.4, 1.0], np.float32),
    "seed": np.asarray([11, 12, 13], np.int32),
}
NEW = 14


@pytest.fixture(scope="module", params=["qwen2", "v2-lite", "v3"])
def model(request: pytest.FixtureRequest) -> Any:
    return checkpoint.from_pretrained(GOLDEN / request.param)


@pytest.fixture(scope="module")
def served(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The signatures of a SavedModel that was loaded again."""
    folder = str(tmp_path_factory.mktemp("saved"))
    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, folder, signatures.make(model, [END]))
    return tf.saved_model.load(folder)


def ask(served: Any, name: str, ids: Any, mask: Any, **more: Any) -> dict[str, Any]:
    given = {"input_ids": ids, "attention_mask": mask} | SETTINGS | more
    found = served.signatures[name](**{key: tf.constant(each) for key, each in given.items()})
    return {key: each.numpy() for key, each in found.items()}


@pytest.fixture(scope="module")
def whole(served: Any) -> dict[str, Any]:
    return ask(served, "generate", IDS, MASK, max_new_tokens=NEW)


@pytest.mark.parametrize("pieces", [[NEW - 1], [1, 1, 4, 7], [0, NEW - 1]])
def test_pieces_give_the_whole(served: Any, whole: Any, pieces: list[int]) -> None:
    begun = ask(served, "prefill", IDS, MASK)
    tokens, cache = begun["tokens"], begun["cache"]
    assert tokens.shape == (3, 1)
    assert cache.shape[:2] == IDS.shape
    for steps in pieces:
        ids = np.concatenate([IDS, tokens], 1)
        mask = np.concatenate([MASK, np.ones_like(tokens)], 1)
        more = ask(served, "decode", ids, mask, cache=cache, steps=steps)
        assert more["tokens"].shape == (3, steps)
        assert more["cache"].shape[1] == ids.shape[1] - 1 + steps
        tokens, cache = np.concatenate([tokens, more["tokens"]], 1), more["cache"]
    np.testing.assert_array_equal(tokens, whole["tokens"])


def test_a_server_writes_what_python_writes(model: Any, whole: Any) -> None:
    generator = Generator(model, end_ids=[END])
    for row in range(3):
        settings = Settings(
            max_new_tokens=NEW, **{name: values[row].item() for name, values in SETTINGS.items()}
        )
        (answer,) = generator.generate([IDS[row][MASK[row] > 0].tolist()], settings)
        count = whole["lengths"][row]
        assert list(answer.tokens) == whole["tokens"][row, :count].tolist()
        assert set(whole["tokens"][row, count:]) <= {END}


def test_texts_that_have_ended_stay_ended(served: Any, whole: Any) -> None:
    """Each repeats its end token, and the cache still has all columns."""
    tokens = np.full((3, 1), END, np.int32)
    ids, mask = np.concatenate([IDS, tokens], 1), np.concatenate([MASK, tokens], 1)
    cache = ask(served, "prefill", IDS, MASK)["cache"]
    more = ask(served, "decode", ids, mask, cache=cache, steps=4)
    np.testing.assert_array_equal(more["tokens"], END)
    assert more["cache"].shape[1] == 9


def test_one_token_is_the_first_of_more(served: Any, whole: Any) -> None:
    found = ask(served, "generate", IDS, MASK, max_new_tokens=1)
    np.testing.assert_array_equal(found["tokens"], whole["tokens"][:, :1])
    np.testing.assert_array_equal(found["lengths"], 1)


def test_a_text_alone_is_the_text_beside_others(served: Any, whole: Any) -> None:
    """A server does not know the batch's size beforehand; experts go another way for few texts."""
    for row in range(3):
        alone = {name: values[row : row + 1] for name, values in SETTINGS.items()}
        ids, mask = IDS[row : row + 1], MASK[row : row + 1]
        found = ask(served, "generate", ids, mask, max_new_tokens=NEW, **alone)
        np.testing.assert_array_equal(found["tokens"], whole["tokens"][row : row + 1])


def test_the_manifest_says_what_the_functions_take_and_give(model: Any, served: Any) -> None:
    for name, told in signatures.described(model).items():
        function = served.signatures[name]
        taken = function.structured_input_signature[1]
        for specs, found in ((told.inputs, taken), (told.outputs, function.structured_outputs)):
            assert {spec.name for spec in specs} == set(found)
            for spec in specs:
                assert found[spec.name].dtype.name == spec.dtype
                assert found[spec.name].shape.rank == len(spec.shape)
                assert found[spec.name].shape.is_compatible_with(spec.shape)
