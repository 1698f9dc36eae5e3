"""Laws of noise on tokens: each kind changes only what it may, and seed, epoch and index decide."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.preprocess import Ids
from finetune.data.augment_text import TextAugmenter, TextNoise
from finetune.errors import RecipeError

PAD, CLS, SEP, MASK = 0, 2, 3, 4
SPECIAL = {PAD, CLS, SEP, MASK}
ALL = TextNoise(mask=0.3, delete=0.3, swap=0.3, span=0.5)

words = st.lists(st.integers(5, 40), min_size=1, max_size=20)
seeds = st.integers(0, 2**31 - 1)


def augmenter(seed: int = 0, **noise: Any) -> TextAugmenter:
    return TextAugmenter(TextNoise(**noise), special=SPECIAL, mask_id=MASK, seed=seed)


def row(tokens: list[int], padding: int = 0) -> Ids:
    return np.asarray([CLS, *tokens, SEP, *[PAD] * padding], np.int32)


def ordinary(ids: Ids) -> list[int]:
    return [int(token) for token in ids if token not in SPECIAL]


@given(words, seeds, st.integers(0, 3))
def test_special_tokens_and_padding_stay(tokens: list[int], seed: int, padding: int) -> None:
    ids = row(tokens, padding)
    before = ids.copy()
    noisy = TextAugmenter(ALL, special=SPECIAL, mask_id=MASK, seed=seed)(ids, 0, 0)
    np.testing.assert_array_equal(ids, before)
    assert noisy.dtype == np.int32
    assert len(noisy) <= len(ids)
    assert noisy[0] == CLS
    np.testing.assert_array_equal(noisy[len(noisy) - padding - 1 :], [SEP, *[PAD] * padding])
    assert Counter(noisy.tolist())[CLS] == Counter(noisy.tolist())[SEP] == 1
    assert not Counter(ordinary(noisy)) - Counter(tokens)


@given(words, seeds)
def test_masking_changes_tokens_to_the_mask_in_place(tokens: list[int], seed: int) -> None:
    noisy = augmenter(seed, mask=0.5)(row(tokens), 0, 0)
    assert len(noisy) == len(tokens) + 2
    assert all(new in (old, MASK) for old, new in zip(row(tokens), noisy, strict=True))


@given(words, seeds)
def test_deletion_keeps_the_order_and_one_token(tokens: list[int], seed: int) -> None:
    noisy = ordinary(augmenter(seed, delete=0.9)(row(tokens), 0, 0))
    assert noisy
    rest = iter(tokens)
    assert all(token in rest for token in noisy)  # a subsequence


@given(words, seeds)
def test_swaps_move_each_token_by_one_place_at_most(tokens: list[int], seed: int) -> None:
    distinct = list(range(5, 5 + len(tokens)))
    noisy = ordinary(augmenter(seed, swap=0.5)(row(distinct), 0, 0))
    assert sorted(noisy) == distinct
    assert all(abs(noisy.index(token) - place) <= 1 for place, token in enumerate(distinct))


@given(words, seeds, st.integers(1, 5))
def test_a_span_becomes_one_mask(tokens: list[int], seed: int, longest: int) -> None:
    noisy = augmenter(seed, span=0.999, span_tokens=longest)(row(tokens), 0, 0)
    if np.array_equal(noisy, row(tokens)):
        return
    (place,) = np.flatnonzero(noisy == MASK)
    lost = len(tokens) + 2 - len(noisy) + 1
    assert 1 <= lost <= longest
    expected = row(tokens)
    np.testing.assert_array_equal(noisy[:place], expected[:place])
    np.testing.assert_array_equal(noisy[place + 1 :], expected[place + lost :])


@pytest.mark.parametrize("tokens", [[], [CLS, SEP], [PAD], [MASK, MASK]])
def test_nothing_happens_where_nothing_may_change(tokens: list[int]) -> None:
    ids = np.asarray(tokens, np.int32)
    for index in range(50):
        noisy = TextAugmenter(ALL, special=SPECIAL, mask_id=MASK, seed=0)(ids, 0, index)
        np.testing.assert_array_equal(noisy, ids)


def test_no_noise_changes_nothing() -> None:
    np.testing.assert_array_equal(augmenter()(row([5, 6, 7]), 0, 0), row([5, 6, 7]))


def test_seed_epoch_and_index_decide() -> None:
    ids = row(list(range(5, 35)))

    def noisy(seed: int, epoch: int, index: int) -> list[int]:
        made = TextAugmenter(ALL, special=SPECIAL, mask_id=MASK, seed=seed)
        return [int(token) for token in made(ids, epoch, index)]

    first = noisy(0, 0, 0)
    assert first == noisy(0, 0, 0)
    assert all(first != noisy(*other) for other in [(1, 0, 0), (0, 1, 0), (0, 0, 1)])


def test_an_epoch_is_each_example_by_its_index() -> None:
    rows = [row([5, 6, 7, 8]), row([9, 10, 11])]
    noise = augmenter(swap=0.5, delete=0.2)
    for index, noisy in enumerate(noise.epoch(rows, 3)):
        np.testing.assert_array_equal(noisy, noise(rows[index], 3, index))


def test_the_shares_are_those_asked_for() -> None:
    tokens = list(range(5, 35))
    masked = augmenter(mask=0.15).epoch([row(tokens)] * 500, 0)
    assert np.mean([np.mean(ids[1:-1] == MASK) for ids in masked]) == pytest.approx(0.15, abs=0.01)
    shorter = augmenter(delete=0.1).epoch([row(tokens)] * 500, 0)
    assert np.mean([len(ids) - 2 for ids in shorter]) == pytest.approx(27, abs=0.3)
    spans = augmenter(span=0.4).epoch([row(tokens)] * 500, 0)
    assert np.mean([MASK in ids for ids in spans]) == pytest.approx(0.4, abs=0.07)


def test_it_runs_in_a_pipeline() -> None:
    import tensorflow as tf

    noise = augmenter(mask=0.5)
    rows = [row([5, 6, 7]), row([8, 9, 10])]
    dataset = tf.data.Dataset.from_tensor_slices(rows).enumerate()
    dataset = dataset.map(lambda index, ids: tf.numpy_function(noise, [ids, 1, index], tf.int32))
    for found, expected in zip(dataset, noise.epoch(rows, 1), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["mask", "delete", "swap", "span"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(RecipeError, match=rf"augment\.{name}: {value} must be at least 0"):
        TextNoise(**{name: value})


def test_a_span_of_nothing_is_named() -> None:
    with pytest.raises(RecipeError, match=r"augment\.span_tokens: 0 must be at least 1"):
        TextNoise(span_tokens=0)


def test_masks_need_a_mask_token() -> None:
    for noise in (TextNoise(mask=0.1), TextNoise(span=0.1)):
        with pytest.raises(
            RecipeError, match=r"no mask token \(\[MASK\] or <mask>\); set both to 0"
        ):
            TextAugmenter(noise, special=SPECIAL, mask_id=None, seed=0)
    TextAugmenter(TextNoise(swap=0.1), special=SPECIAL, mask_id=None, seed=0)


def test_a_tokenizer_tells_its_special_tokens(tokenizer_json: bytes) -> None:
    content = json.loads(tokenizer_json)
    content["model"]["vocab"]["[MASK]"] = 30
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"] = [{"id": 30, "content": "[MASK]", "special": True, **added}]
    noise = TextAugmenter.of_tokenizer(
        json.dumps(content).encode(), TextNoise(mask=0.9), pad_id=0, seed=0
    )
    noisy = noise(np.asarray([2, *[9] * 100, 3, 0], np.int32), 0, 0)
    assert set(noisy.tolist()) == {2, 9, 30, 3, 0}
    assert (noisy[0], noisy[-2], noisy[-1]) == (2, 3, 0)
    with pytest.raises(RecipeError, match="no mask token"):
        TextAugmenter.of_tokenizer(tokenizer_json, TextNoise(mask=0.9), pad_id=0, seed=0)


def test_it_is_no_burden() -> None:
    """A training at 50 examples/s has 20 ms for each; all noise together may take a tenth."""
    noise = TextAugmenter(ALL, special=SPECIAL, mask_id=MASK, seed=0)
    rows = [row(list(range(5, 35)))] * 200
    start = time.perf_counter()
    noise.epoch(rows, 0)
    assert (time.perf_counter() - start) / len(rows) < 0.002
