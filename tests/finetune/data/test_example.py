"""Law: an example is TensorFlow's, to the byte, and what it lacks is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import example

features = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.one_of(st.binary(max_size=20), st.integers(-(2**63), 2**63 - 1)),
    max_size=5,
)


@given(features)
def test_reads_back_what_was_written(values: dict[str, bytes | int]) -> None:
    wanted: dict[str, type[bytes] | type[int]] = {
        name: bytes if isinstance(value, bytes) else int for name, value in values.items()
    }
    assert example.decode(example.encode(values), wanted) == values


@given(features)
def test_it_is_tensorflows_example(values: dict[str, bytes | int]) -> None:
    import tensorflow as tf

    theirs = tf.train.Example()
    for name, value in values.items():
        if isinstance(value, bytes):
            theirs.features.feature[name].bytes_list.value.append(value)
        else:
            theirs.features.feature[name].int64_list.value.append(value)
    ours = example.encode(values)
    assert tf.train.Example.FromString(ours) == theirs
    assert theirs.SerializeToString(deterministic=True) == ours


def test_what_cant_be_used_is_named() -> None:
    payload = example.encode({"text": b"a", "label": 1})
    with pytest.raises(ValueError, match=r"`image` must be one bytes.*\['label', 'text'\]"):
        example.decode(payload, {"image": bytes})
    with pytest.raises(ValueError, match="`label` must be one bytes, the record has 0"):
        example.decode(payload, {"label": bytes})
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        example.decode(b"\xff\xff\xff", {"text": bytes})
    with pytest.raises(ValueError, match="`text` must be one bytes"):
        example.decode(b"", {"text": bytes})
