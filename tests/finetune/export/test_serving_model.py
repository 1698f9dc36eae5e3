"""Laws of the exported functions: token ids in, float32 logits out, in the shapes they promise."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.errors import InputError
from finetune.export.candidate import Candidate
from finetune.export.serving_model import signature


def test_it_has_no_attribute_that_the_converter_mistakes_for_its_own(candidate: Candidate) -> None:
    assert not hasattr(candidate.model, "serve")


def test_one_text_is_answered_with_one_row(candidate: Candidate) -> None:
    text = candidate.data.test.texts[0]
    answer = candidate.model.answer(text)
    assert (answer.shape, answer.dtype) == ((2,), np.float32)
    np.testing.assert_allclose(answer, candidate.result.logits[0], atol=1e-4)


def test_a_text_that_breaks_a_limit_is_refused(candidate: Candidate) -> None:
    with pytest.raises(InputError, match="text: is empty"):
        candidate.model.answer(" ")


@pytest.mark.parametrize(("batch", "tokens"), [(None, None), (1, 8), (4, 16)])
def test_functions_have_the_shapes_that_the_manifest_tells(
    candidate: Candidate, batch: int | None, tokens: int | None
) -> None:
    concrete = candidate.model.function(batch, (tokens,))
    told = signature(candidate.task.preprocessor.spec, 2, batch, (tokens,))
    inputs = {tensor.name.split(":")[0]: tensor for tensor in concrete.inputs[:2]}
    for spec in told.inputs:
        assert (spec.dtype, spec.shape) == (
            inputs[spec.name].dtype.name,
            tuple(inputs[spec.name].shape),
        )
    (spec,) = told.outputs
    logits = concrete.structured_outputs[spec.name]
    assert (spec.dtype, spec.shape) == (logits.dtype.name, tuple(logits.shape))
