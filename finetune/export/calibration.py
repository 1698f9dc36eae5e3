"""The examples that show which numbers flow through a model: real ones, of the training split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bundle.manifest import Calibration
from bundle.preprocess import Raw, Tensors
from finetune.data.batches import Encoded
from finetune.errors import ExportError
from finetune.export.ranges import Samples
from finetune.tasks.base import Task, TaskData, spread

EXAMPLES = 300


@dataclass(frozen=True)
class CalibrationSet:
    """What a model is calibrated with."""

    samples: Samples
    record: Calibration  # for the manifest


def choose(task: Task, data: TaskData, examples: int = EXAMPLES) -> CalibrationSet:
    """Training examples of every label and every length, none of which is also tested on.

    They are spread evenly over the examples in order of label, then length: the same data always
    gives the same ones.

    Raises:
        ExportError: every training example is also an example of dev or test.
    """
    used = {
        _digest(task.raw(split, place))
        for split in (data.dev, data.test)
        for place in range(len(split))
    }
    order = sorted(range(len(data.train)), key=lambda place: _stratum(data.train, place))
    own = [place for place in order if _digest(task.raw(data.train, place)) not in used]
    if not own:
        raise ExportError("calibration: every training example is in dev or test; add others")
    chosen = [task.raw(data.train, place) for place in spread(own, examples)]
    digest = hashlib.sha256(b"".join(_digest(raw) for raw in chosen)).hexdigest()
    record = Calibration(split="train", examples=len(chosen), sha256=digest)
    return CalibrationSet(_samples(task, chosen), record)


def _samples(task: Task, inputs: Sequence[Raw]) -> Samples:
    """The inputs as tensors, each for the signature of its length."""
    names = {shape: name for name, shape in task.preprocessor.spec.variants.items()}
    samples: dict[str, list[Tensors]] = defaultdict(list)
    for raw in inputs:
        tensors: Tensors = task.preprocessor([raw])
        samples[names[next(iter(tensors.values())).shape[1:]]].append(tensors)
    return samples


def _stratum(split: Any, place: int) -> tuple[int, int]:
    """Label and length of an example; a picture has none."""
    length = len(split.ids[place]) if isinstance(split, Encoded) else 0
    return int(split.labels[place]), length


def _digest(raw: Raw) -> bytes:
    return hashlib.sha256(raw.encode() if isinstance(raw, str) else raw).digest()
