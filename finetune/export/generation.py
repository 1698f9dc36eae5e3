"""What a published language model of ours has besides its logits: signatures that write texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundle.manifest import Generation, Signature, TensorSpec
from bundle.preprocess import Tensors
from finetune.deepseek import signatures
from finetune.deepseek.decoder import CausalLM
from finetune.export.candidate import Candidate
from finetune.tasks.text_generation import TextGeneration


def functions(candidate: Candidate) -> dict[str, Any]:
    """What a server can call, by signature; nothing if the model is no `CausalLM` of ours."""
    end_ids = _end_ids(candidate)
    return {} if end_ids is None else signatures.make(candidate.model.model, end_ids)


def described(candidate: Candidate) -> dict[str, Signature]:
    """What the manifest says of `functions`."""
    return {} if _end_ids(candidate) is None else signatures.described(candidate.model.model)


def record(candidate: Candidate) -> Generation | None:
    """What the manifest says for those who call them."""
    end_ids = _end_ids(candidate)
    if end_ids is None:
        return None
    return Generation(positions=candidate.model.model.config.positions, end_ids=end_ids)


def requests(candidate: Candidate) -> dict[str, Tensors]:
    """A small call of each: one text of one token, the cache of which has no column yet."""
    return {
        name: {spec.name: np.ones(_small(spec), spec.dtype) for spec in told.inputs}
        for name, told in described(candidate).items()
    }


def _small(spec: TensorSpec) -> list[int]:
    sizes = [1 if size is None else size for size in spec.shape]
    return [sizes[0], 0, sizes[2]] if spec.name == "cache" else sizes


def _end_ids(candidate: Candidate) -> tuple[int, ...] | None:
    task = candidate.task
    is_ours = isinstance(candidate.model.model, CausalLM)
    return task.end_ids if is_ours and isinstance(task, TextGeneration) else None
