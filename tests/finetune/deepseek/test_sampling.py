"""Laws of sampling: a token is drawn as often as its probability says, of those that may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import sampling
from finetune.deepseek.sampling import Sampling, Settings
from finetune.errors import GenerationError

LOGITS = np.log(np.asarray([0.1, 0.4, 0.05, 0.25, 0.2], np.float32))
DRAWS = 4000
compiled = tf.function(sampling.choose, reduce_retracing=True)


def drawn(logits: Any, **settings: Any) -> Any:
    """How often each token comes, drawn at many places of one text."""
    count = len(logits)
    rows = tf.repeat(tf.constant(logits)[None], DRAWS, axis=0)
    told = sampling.of(Settings(**{"temperature": 1.0} | settings), DRAWS)
    told = told._replace(seed=tf.fill([DRAWS], settings.get("seed", 0)))
    seen = tf.zeros([DRAWS, 1], tf.int32)
    chosen = compiled(rows, seen, tf.range(DRAWS), told)
    return np.bincount(chosen.numpy(), minlength=count) / DRAWS


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.4, 0.05, 0.25, 0.2]),
        ({"top_k": 2}, [0, 0.4, 0, 0.25, 0]),
        ({"top_k": 99}, [0.1, 0.4, 0.05, 0.25, 0.2]),
        ({"top_p": 0.66}, [0, 0.4, 0, 0.25, 0.2]),
        ({"top_p": 0.64}, [0, 0.4, 0, 0.25, 0]),
        ({"top_p": 1e-6}, [0, 1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.7}, [0, 0.4, 0, 0.25, 0]),  # of 0.85: 0.47 and 0.76
        ({"temperature": 0.5}, [0.01, 0.16, 0.0025, 0.0625, 0.04]),
        ({"temperature": 0.0}, [0, 1, 0, 0, 0]),
        ({"temperature": 1e-30, "top_p": 0.9}, [0, 1, 0, 0, 0]),
    ],
)
def test_tokens_come_as_often_as_they_should(settings: Any, expected: Any) -> None:
    shares = np.asarray(expected) / np.sum(expected)
    found = drawn(LOGITS, **settings)
    np.testing.assert_allclose(found, shares, atol=0.025)
    assert not found[shares == 0].any()


def test_equal_logits_stay_together() -> None:
    frequency = drawn(np.zeros(4, np.float32), top_k=2)
    assert (frequency > 0.2).all()


def choose(logits: Any, seen: Any, place: int = 3, **settings: Any) -> list[int]:
    given = sampling.of(Settings(**settings), len(logits))
    rows = tf.constant(logits, tf.float32)
    places = tf.fill([len(logits)], place)
    return compiled(rows, tf.constant(seen), places, given).numpy().tolist()  # type: ignore[no-any-return]


def test_the_penalty_lowers_what_the_text_has_already() -> None:
    """Also a negative logit, and only once however often the token was there."""
    logits = [[2.0, 1.5, -1.0], [-0.5, -0.6, -2.0]]
    assert choose(logits, [[0, 0, 0], [0, 0, 0]]) == [0, 0]
    assert choose(logits, [[0, 0, 0], [0, 0, 0]], repetition_penalty=1.3) == [0, 1]
    assert choose(logits, [[0, 0, 2], [0, 2, 0]], repetition_penalty=1.5) == [1, 1]


def test_each_text_of_a_batch_has_its_own_settings() -> None:
    rows = tf.repeat(tf.constant(LOGITS)[None], 3, axis=0)
    mixed = Sampling(
        temperature=tf.constant([0.0, 5.0, 1.0]),
        top_k=tf.constant([0, 0, 1]),
        top_p=tf.ones([3]),
        repetition_penalty=tf.constant([1.0, 1.0, 9.0]),
        seed=tf.constant([0, 1, 2]),
    )
    seen = tf.constant([[1], [1], [1]])
    found = [compiled(rows, seen, tf.fill([3], place), mixed).numpy() for place in range(60)]
    by_text = np.stack(found, 1)
    assert set(by_text[0]) == {1}
    assert len(set(by_text[1])) == 5
    assert set(by_text[2]) == {3}  # the likeliest one after the penalty


def test_a_draw_depends_on_seed_and_place_alone() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    seen = np.zeros((4, 2), np.int32)
    whole = choose(logits, seen, temperature=1.0, seed=7)
    for row in range(4):
        assert choose(logits[row : row + 1], seen[:1], temperature=1.0, seed=7 + row) == [
            whole[row]
        ]
    assert choose(logits, seen, place=4, temperature=1.0, seed=7) != whole
    assert choose(logits, seen, temperature=1.0, seed=8) != whole


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("max_new_tokens", 0, "must be at least 1"),
        ("temperature", -0.1, "must be 0 or more"),
        ("temperature", float("nan"), "must be 0 or more"),
        ("top_k", -1, r"must be 0 \(no limit\) or more"),
        ("top_p", 0.0, "must be above 0 and at most 1"),
        ("top_p", 1.5, "must be above 0 and at most 1"),
        ("repetition_penalty", 0.0, "must be above 0"),
        ("seed", -1, "must be 0 to 2147483647"),
        ("stop", ("",), "must hold no empty string"),
    ],
)
def test_a_setting_that_can_not_be_is_refused_by_name(name: str, value: Any, rule: str) -> None:
    with pytest.raises(GenerationError, match=f"^{name}: .*{rule}"):
        Settings(**{name: value})
