"""Laws of calibration: real training examples of every kind, the same ones each time."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from finetune.data.batches import Encoded
from finetune.errors import ExportError
from finetune.export import calibration
from finetune.export.candidate import Candidate


def test_every_label_and_length_has_its_share(candidate: Candidate) -> None:
    task, data = candidate.task, candidate.data
    found = calibration.choose(task, data, examples=40)
    assert sum(map(len, found.samples.values())) == found.record.examples == 40
    assert found.samples.keys() == {"tokens_8", "tokens_16"}
    lengths = [
        int(each["attention_mask"].sum()) for rows in found.samples.values() for each in rows
    ]
    assert min(lengths) == min(map(len, data.train.ids))
    assert max(lengths) == max(map(len, data.train.ids))
    pairs = zip(data.train.ids, data.train.labels, strict=True)
    texts = {ids.tobytes(): label for ids, label in pairs}
    labels = Counter(
        texts[each["input_ids"][0][: int(each["attention_mask"].sum())].tobytes()]
        for rows in found.samples.values()
        for each in rows
    )
    assert set(labels) == {0, 1}
    assert min(labels.values()) >= 15


def test_samples_are_keyed_by_the_inputs_of_their_signature(candidate: Candidate) -> None:
    found = calibration.choose(candidate.task, candidate.data, examples=10)
    for name, rows in found.samples.items():
        tokens = int(name.split("_")[1])
        for tensors in rows:
            assert tensors.keys() == {"input_ids", "attention_mask"}
            assert {values.shape for values in tensors.values()} == {(1, tokens)}


def test_the_same_data_give_the_same_hash_and_others_another(candidate: Candidate) -> None:
    task, data = candidate.task, candidate.data
    first, again = (calibration.choose(task, data, examples=20).record for _ in range(2))
    assert first == again
    fewer = dataclasses.replace(data, train=_part(data.train, range(1, len(data.train))))
    assert calibration.choose(task, fewer, examples=20).record.sha256 != first.sha256


def test_no_example_is_also_evaluated(candidate: Candidate) -> None:
    """A training example that the test split has too is left out."""
    task, data = candidate.task, candidate.data
    leaky = _part(data.train, range(10))
    tested = dataclasses.replace(data, train=leaky, test=_part(data.train, range(5)))
    used = {data.train.texts[place] for place in range(5)}
    record = calibration.choose(task, tested).record
    assert record.examples == sum(text not in used for text in leaky.texts) <= 5
    with pytest.raises(ExportError, match="every training example is in dev or test"):
        calibration.choose(task, dataclasses.replace(data, train=leaky, test=leaky))


def _part(split: Encoded, places: range) -> Encoded:
    texts = tuple(split.texts[place] for place in places)
    return Encoded([split.ids[place] for place in places], split.labels[list(places)], texts)
