"""A version answers its golden inputs before it answers anyone else.

A backend that lacks a kernel, or holds another model under the same number, says AVAILABLE all the
same and answers wrongly without any error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bundle import golden
from bundle.errors import BundleError
from serving.gateway.published import Model
from serving.gateway.types import SIGNATURE, Deadline, Execute

_TIMEOUT_S = 20.0


async def verdict(model: Model, execute: Execute) -> str | None:
    """Why a version must not take traffic; None if it may.

    Args:
        execute: the backend that says it has it.

    Raises:
        ServingError: the backend can't be asked now: nothing is known yet.
    """
    if model.golden is None:
        return None
    answers = [await _answer(model, execute, raw) for raw in model.golden.inputs]
    given = iter(answers)
    try:
        golden.check(model.golden, lambda _: next(given), f"{model.key.name} {model.key.version}")
    except BundleError as error:
        return str(error)
    return None


async def _answer(model: Model, execute: Execute, raw: Any) -> Any:
    tensors = model.preprocessor([raw])
    outputs = await execute(model.key, tensors, Deadline.after(_TIMEOUT_S))
    logits = outputs.get(model.manifest.signatures[SIGNATURE].outputs[0].name, np.empty((1, 0)))
    return logits[0] if logits.ndim else logits
