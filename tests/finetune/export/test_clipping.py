"""Laws of clipping: feed-forward outliers are found, bounded in calibration, and no op stays."""

from __future__ import annotations

from finetune.export import clipping, inference_graph, ranges, tflite, tflite_file
from finetune.export.calibration import choose
from finetune.export.candidate import Candidate
from finetune.progress import Silent


def test_what_goes_into_gelu_and_comes_after_it_is_bounded(candidate: Candidate) -> None:
    """And everything behind is measured under the bounds, under its own name."""
    variants = candidate.task.preprocessor.spec.variants
    model = tflite.convert(inference_graph.of(candidate.model, for_int8=True), variants, "float32")
    known = choose(candidate.task, candidate.data, examples=20).samples
    observed = ranges.observe(model, known, Silent())
    limits = clipping.bounds(model, observed, times=1.0)
    parsed = tflite_file.parse(model)
    operators = parsed.subgraphs[0].operators
    names = [tflite_file.op_name(parsed, each) for each in operators]
    gelu = names.index("GELU") + 1  # a place counts from 1
    assert sorted(limits) == [(gelu - 1, 0), (gelu + 1, 0)]
    (inner, outer) = (limits[place] for place in sorted(limits))
    assert (inner.low, inner.high) == (-5.0, max(5.0, observed[gelu - 1, 0].typical))
    assert (outer.low, outer.high) == (-outer.high, observed[gelu + 1, 0].typical)

    bounded = ranges.observe(clipping.insert(model, limits), known, Silent(), of=model)
    assert bounded.keys() == observed.keys()
    assert bounded[gelu + 1, 0].high > outer.high  # itself as it was, but what is added to it:
    added = (gelu + 2, 0)
    assert names[gelu + 1] == "ADD"
    assert bounded[added].high <= observed[added].high
    assert bounded[gelu - 2, 0] == observed[gelu - 2, 0]  # nothing before is changed


def test_a_model_without_gelu_has_nothing_to_bound(converted: dict[str, bytes]) -> None:
    parsed = tflite_file.parse(converted["full_int8"])
    for graph in parsed.subgraphs:
        graph.operators = graph.operators[:2]
    assert clipping.bounds(tflite_file.pack(parsed), {}, 2.0) == {}
