"""Laws of int8: near the float model, nothing left float but islands, honest versions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from bundle.postprocess import real
from finetune.errors import ExportError
from finetune.export import flatbuffer, ranges, static_int8, tflite_file
from finetune.export.int8_scales import Scale
from finetune.export.ranges import Range, Samples
from finetune.progress import Silent

Values = NDArray[Any]
GENERATOR = np.random.default_rng(0)
INNER = GENERATOR.normal(size=(8, 12)).astype(np.float32)
INNER[:, 3] = 0  # a channel of nothing but its bias
OUTER = GENERATOR.normal(size=(12, 8)).astype(np.float32)
BIAS = GENERATOR.normal(size=12).astype(np.float32)


def feed_forward(x: Any) -> Any:
    return x + tf.matmul(tf.nn.gelu(tf.matmul(x, INNER) + BIAS), OUTER)


def attention(x: Any) -> Any:
    return tf.matmul(tf.nn.softmax(tf.matmul(x, tf.tanh(x), transpose_b=True)), x + 1e-9)


def converted(function: Callable[[Any], Any], *sizes: int, dtype: Any = tf.float32) -> bytes:
    """A TFLite file with a signature `rows_<n>` for each n: x [n, 8] → logits."""
    functions = {
        f"rows_{rows}": tf.function(lambda x: {"logits": function(x)}).get_concrete_function(
            x=tf.TensorSpec([rows, 8], dtype, name="x")
        )
        for rows in sizes
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[*functions])
        return bytes(converter.convert())


def samples(*sizes: int, pixels: bool = False) -> Samples:
    def one(rows: int) -> Values:
        if pixels:
            return GENERATOR.integers(0, 256, (rows, 8)).astype(np.uint8)
        return GENERATOR.normal(size=(rows, 8)).astype(np.float32)

    return {f"rows_{rows}": [{"x": one(rows)} for _ in range(16)] for rows in sizes}


def quantized(model: bytes, known: Samples, *islands: str) -> bytes:
    observed = ranges.observe(model, known, Silent())
    return static_int8.quantize(model, ranges.whole(model, observed), islands)


def answer(model: bytes, signature: str, x: Values) -> Values:
    """Numbers for numbers, through whatever scales the file has."""
    described = flatbuffer.signatures(model)[signature]
    (source,), (target,) = described.inputs, described.outputs
    if source.dtype == "int8" and source.quantization:
        scale = Scale(source.quantization.scale, source.quantization.zero_point)
        x = scale.quantize(x)
    run = Interpreter(model_content=model).get_signature_runner(signature)
    return real(run(x=x)["logits"], target)


@pytest.mark.parametrize("function", [feed_forward, attention])
def test_int8_answers_nearly_as_float(function: Any) -> None:
    model, known = converted(function, 4), samples(4)
    whole = quantized(model, known)
    content = flatbuffer.inspect(whole)
    assert (content.float_ops, content.whole_weights) == ({}, 0)
    for tensors in known["rows_4"]:
        expected = answer(model, "rows_4", tensors["x"])
        found = answer(whole, "rows_4", tensors["x"])
        assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()


def test_signatures_share_weights_and_ranges() -> None:
    """A length that no example has is calibrated by the others."""
    both, one = (quantized(converted(feed_forward, *sizes), samples(4)) for sizes in ((4, 6), (4,)))
    weights, single = (flatbuffer.tflite_file.parse(each).buffers for each in (both, one))
    count, alone = (
        sum(each.data is not None and len(each.data) == INNER.size for each in buffers)
        for buffers in (weights, single)
    )
    assert count == alone
    x = GENERATOR.normal(size=(6, 8)).astype(np.float32)
    expected = np.asarray(feed_forward(tf.constant(x)))
    assert np.abs(answer(both, "rows_6", x) - expected).max() < 0.1 * np.abs(expected).max()


def test_islands_stay_float_between_conversions() -> None:
    model, known = converted(feed_forward, 4), samples(4)
    mixed = quantized(model, known, "GELU")
    content = flatbuffer.inspect(mixed)
    assert content.float_ops == {"GELU": 1}
    assert {"QUANTIZE/1", "DEQUANTIZE/2"} <= content.ops.keys()
    (logits,) = flatbuffer.signatures(mixed)["rows_4"].outputs
    assert (logits.dtype, logits.quantization) == ("float32", None)
    x = known["rows_4"][0]["x"]
    expected = answer(model, "rows_4", x)
    assert np.abs(answer(mixed, "rows_4", x) - expected).max() < 0.06 * np.abs(expected).max()


def test_ops_have_the_versions_of_their_int8_kernels() -> None:
    ops = flatbuffer.inspect(quantized(converted(feed_forward, 4), samples(4))).ops
    assert ops == {"ADD/2": 1, "FULLY_CONNECTED/4": 2, "GELU/2": 1}
    ops = flatbuffer.inspect(quantized(converted(attention, 4), samples(4))).ops
    assert ops["BATCH_MATMUL/2"] >= 1  # the converter makes the other one FULLY_CONNECTED
    assert "ADD/2" not in ops  # 10⁻⁹ is no step of int8


def test_a_product_that_is_an_island_keeps_its_int8_weights() -> None:
    """And is named by the path to it: the other one stays static."""

    def named(x: Any) -> Any:
        with tf.name_scope("inner"):
            hidden = tf.nn.gelu(tf.matmul(x, INNER))
        with tf.name_scope("outer"):
            return tf.matmul(hidden, OUTER) * 2.0

    model, known = converted(named, 4), samples(4)
    mixed = quantized(model, known, "FULLY_CONNECTED:inner")
    content = flatbuffer.inspect(mixed)
    assert content.ops["FULLY_CONNECTED/12"] == 1
    assert content.int8_ops["FULLY_CONNECTED"] == 1
    assert content.weight_dtypes == {}  # they are too few to count; see the tensors
    assert content.min_runtime == "2.17.0"
    x = known["rows_4"][0]["x"]
    expected = answer(model, "rows_4", x)
    assert np.abs(answer(mixed, "rows_4", x) - expected).max() < 0.06 * np.abs(expected).max()


def test_what_only_moves_numbers_loses_no_more_than_a_step() -> None:
    def moved(x: Any) -> Any:
        first, second = tf.split(x, [3, 5], axis=1)
        chosen = tf.reduce_sum(tf.one_hot(tf.math.top_k(x, 2).indices, 8), 1)
        stacked = tf.stack([tf.tile(first, [1, 2]), tf.concat([first, first * 0.5], 1)], 1)
        return tf.concat([tf.reshape(stacked, [4, 12]), second, chosen], 1)

    model, known = converted(moved, 4), samples(4)
    whole = quantized(model, known)
    content = flatbuffer.inspect(whole)
    assert {"SPLIT_V/2", "ONE_HOT/1", "TOPK_V2/2", "PACK/2", "TILE/3"} <= content.ops.keys()
    assert content.float_tensors == 0
    x = known["rows_4"][0]["x"]
    np.testing.assert_allclose(
        answer(whole, "rows_4", x)[:, :17], answer(model, "rows_4", x)[:, :17], atol=0.06
    )


def test_scales_that_end_a_process_are_refused() -> None:
    """LiteRT would abort over a sum a millionth of its summands."""
    model, known = converted(lambda x: x + tf.tanh(x), 4), samples(4)
    observed = ranges.whole(model, ranges.observe(model, known, Silent()))
    last = max(observed)
    with pytest.raises(ExportError, match=r"int8: ADD: its tensors have steps of .* dynamic_int8"):
        static_int8.quantize(model, observed | {last: Range(-1e-7, 1e-7)})


def test_a_mask_takes_no_part_of_a_range() -> None:
    model = converted(lambda x: tf.where(x > 0, x, -np.inf), 4)
    observed = ranges.observe(model, samples(4), Silent())
    assert all(np.isfinite([each.low, each.high]).all() for each in observed.values())


def test_an_older_runtime_is_told_that_it_is_too_old() -> None:
    model = converted(lambda x: tf.math.rsqrt(x * x + 1.0), 4)
    assert flatbuffer.inspect(model).min_runtime < "2.5.0"
    assert flatbuffer.inspect(quantized(model, samples(4))).min_runtime == "2.5.0"


def test_bytes_go_in_and_come_out_of_a_model_of_pictures() -> None:
    """A pixel is its own int8 step, and no float is in between."""
    model = converted(
        lambda x: tf.matmul(tf.cast(x, tf.float32), INNER / 255) + BIAS, 4, dtype=tf.uint8
    )
    known = samples(4, pixels=True)
    whole = quantized(model, known)
    described = flatbuffer.signatures(whole)["rows_4"]
    (source,), (target,) = described.inputs, described.outputs
    assert (source.dtype, target.dtype) == ("uint8", "uint8")
    assert source.quantization is not None
    assert (source.quantization.scale, source.quantization.zero_point) == (1.0, 0)
    assert flatbuffer.inspect(whole).float_tensors == 0
    for tensors in known["rows_4"]:
        expected = answer(model, "rows_4", tensors["x"])
        found = answer(whole, "rows_4", tensors["x"])
        assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_an_op_without_a_kernel_is_named() -> None:
    model, known = converted(lambda x: tf.sin(tf.matmul(x, INNER)), 4), samples(4)
    with pytest.raises(ExportError, match="int8: SIN has no int8 kernel; use mixed_int8"):
        quantized(model, known)
    assert flatbuffer.inspect(quantized(model, known, "SIN")).float_ops == {"SIN": 1}


def test_what_was_not_measured_is_named() -> None:
    model = converted(feed_forward, 4)
    with pytest.raises(ExportError, match=r"int8: nothing was measured of .*; calibrate"):
        static_int8.quantize(model, {})


def test_a_scale_holds_its_range_and_zero() -> None:
    for known in (Range(-3, 5), Range(1, 4), Range(-9, -2), Range(0, 0)):
        scale = Scale.of(known)
        low, high = ((end - scale.zero) * scale.step for end in (-128, 127))
        assert low <= min(known.low, 0) + scale.step
        assert high >= max(known.high, 0) - scale.step
        assert -128 <= scale.zero <= 127
    assert Scale.of(Range(-3, 5), symmetric=True) == Scale(float(np.float32(5 / 127)), 0)


def test_what_lies_outside_a_range_is_cut_off() -> None:
    scale = Scale.of(Range(-1, 1))
    assert scale.quantize(np.asarray([-9.0, 0.0, 9.0])).tolist() == [-128, scale.zero, 127]


def test_softmax_needs_no_step_for_scores_without_weight() -> None:
    """A mask of −10⁴ takes as much of the range as it needs to hide the highest score."""

    table = np.linspace(-2, 3, 16).astype(np.float32)

    def masked(ids: Any) -> Any:
        return tf.nn.softmax(tf.gather(table, ids) + tf.where(ids > 0, 0.0, -1e4))

    model = converted(masked, 4, dtype=tf.int32)
    rows = GENERATOR.integers(1, 16, (16, 4, 8)).astype(np.int32)
    rows[:, :, 5:] = 0
    known = {"rows_4": [{"x": ids} for ids in rows]}
    observed = ranges.observe(model, known, Silent())
    whole = ranges.whole(model, observed)
    parsed = tflite_file.parse(model)
    names = [tflite_file.op_name(parsed, each) for each in parsed.subgraphs[0].operators]
    (score,) = (
        ranges.places(parsed)[0][operator.inputs[0]]
        for operator, name in zip(parsed.subgraphs[0].operators, names, strict=True)
        if name == "SOFTMAX"
    )
    assert observed[score].low < -9000
    assert -20 < whole[score].low < whole[score].high < 5
    x = rows[0]
    found = answer(static_int8.quantize(model, whole), "rows_4", x)
    np.testing.assert_allclose(found, answer(model, "rows_4", x), atol=0.04)
    assert (found[:, 5:] == 0).all()
