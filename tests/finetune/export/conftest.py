"""The tiny model as an edge file of every profile."""

from __future__ import annotations

from typing import Any

import pytest

from bundle import archive
from bundle.manifest import EDGE_MODEL_FILE, Profile
from finetune.export import inference_graph, search, tflite
from finetune.export.candidate import Candidate
from finetune.export.search import Found
from finetune.progress import Silent


@pytest.fixture(scope="session")
def searched(candidate: Candidate) -> dict[str, Found]:
    """What the search finds for each static profile."""
    return {
        "full_int8": search.search(candidate, "full_int8", Silent()),
        "mixed_int8": search.search(candidate, "mixed_int8", Silent()),
    }


@pytest.fixture(scope="session")
def converted(
    published: Any, candidate: Candidate, searched: dict[str, Found]
) -> dict[Profile, bytes]:
    """The model as a TFLite file of each profile."""
    (path,) = published.outcome.edge
    variants = candidate.task.preprocessor.spec.variants
    graph = inference_graph.of(candidate.model)
    return {
        "dynamic_int8": archive.unpack(path)[EDGE_MODEL_FILE],
        "float16": tflite.convert(graph, variants, "float16"),
        "float32": tflite.convert(graph, variants, "float32"),
        "full_int8": searched["full_int8"].model,
        "mixed_int8": searched["mixed_int8"].model,
    }
