"""Laws of inspection: what is said of a TFLite file is what is in it, whatever its name claims."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import get_args

import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from bundle.manifest import Profile
from finetune.errors import GateRefused
from finetune.export import flatbuffer
from finetune.export.candidate import Candidate
from finetune.export.flatbuffer import Content

BYTES = {"float32": 4, "float16": 2, "dynamic_int8": 1, "full_int8": 1, "mixed_int8": 1}
PROFILES = sorted(BYTES)


@pytest.fixture(scope="module")
def contents(converted: dict[Profile, bytes]) -> dict[str, Content]:
    return {profile: flatbuffer.inspect(model) for profile, model in converted.items()}


@pytest.mark.parametrize("profile", PROFILES)
def test_weights_are_counted_once_in_their_dtype(
    contents: dict[str, Content], candidate: Candidate, profile: str
) -> None:
    """Signatures share them, and they add up to the trained model's own."""
    found = contents[profile].weight_dtypes
    dtype = "int8" if profile.endswith("int8") else profile
    matrices = [v for v in candidate.model.model.trainable_variables if v.shape.rank == 2]
    weights = sum(variable.shape.num_elements() for variable in matrices)
    assert found[dtype] == pytest.approx(weights * BYTES[profile], rel=0.06)
    assert found[dtype] > 0.9 * sum(found.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_ops_are_those_that_the_runtime_lists(
    converted: dict[Profile, bytes], contents: dict[str, Content], profile: Profile
) -> None:
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # they fuse ops
    interpreter = Interpreter(model_content=converted[profile], experimental_op_resolver_type=plain)
    listed = Counter(op["op_name"] for op in interpreter._get_ops_details())
    counted: Counter[str] = Counter()
    for name, count in contents[profile].ops.items():
        counted[name.split("/")[0]] += count
    assert counted == listed + listed  # it lists the first of two equal signatures


def test_only_ops_on_floats_count_as_float(contents: dict[str, Content]) -> None:
    quantized, whole = contents["dynamic_int8"], contents["float32"]
    dense = sum(count for name, count in whole.ops.items() if name.startswith("FULLY_CONNECTED"))
    assert whole.float_ops["FULLY_CONNECTED"] == dense > 10
    assert quantized.float_ops.get("FULLY_CONNECTED", 0) < dense / 2  # too small to be worth it
    for name in ("SOFTMAX", "ADD"):  # dynamic: activations stay float
        assert quantized.float_ops[name] == whole.float_ops[name]
    assert "DEQUANTIZE" not in quantized.float_ops


def test_the_oldest_runtime_is_the_converters(contents: dict[str, Content]) -> None:
    """tflite-runtime 2.14 runs float, and not these hybrid kernels."""
    ages = {profile: tuple(map(int, c.min_runtime.split("."))) for profile, c in contents.items()}
    assert max(ages["float32"], ages["full_int8"], ages["mixed_int8"]) <= (2, 14, 0)
    assert ages["dynamic_int8"] > (2, 14, 0)


@pytest.mark.parametrize("content", PROFILES)
@pytest.mark.parametrize("claim", get_args(Profile))
def test_only_the_promised_dtype_passes(
    contents: dict[str, Content], content: str, claim: Profile
) -> None:
    if content == claim:
        flatbuffer.check_profile(contents[content], claim)
        return
    with pytest.raises(GateRefused, match=f"^profile {claim} promises "):
        flatbuffer.check_profile(contents[content], claim)


@pytest.mark.parametrize(
    ("content", "claim", "told"),
    [
        ("float32", "float16", r"promises float16 weights, the converted model has {'float32"),
        ("full_int8", "dynamic_int8", r"promises float activations, .* computes {'ADD'"),
        ("dynamic_int8", "full_int8", r"promises int8 activations, no op "),
        ("mixed_int8", "full_int8", r"promises no float, \d+ tensors hold them: {'"),
        ("full_int8", "mixed_int8", r"promises islands of float, .* has none; call it full_int8"),
    ],
)
def test_what_is_not_kept_is_told(
    contents: dict[str, Content], content: str, claim: Profile, told: str
) -> None:
    with pytest.raises(GateRefused, match=told):
        flatbuffer.check_profile(contents[content], claim)


def test_one_scale_for_all_channels_is_refused(contents: dict[str, Content]) -> None:
    coarse = dataclasses.replace(contents["full_int8"], whole_weights=3)
    with pytest.raises(GateRefused, match="promises a scale for each channel, 3 weights have one"):
        flatbuffer.check_profile(coarse, "full_int8")


def test_a_strict_model_knows_no_float(
    converted: dict[Profile, bytes], contents: dict[str, Content]
) -> None:
    """Its inputs are ids and masks, its output int8 with a scale."""
    found = contents["full_int8"]
    assert (found.float_ops, found.float_tensors) == ({}, 0)
    assert found.weight_dtypes.keys() <= {"int8", "int32"}
    for signature in flatbuffer.signatures(converted["full_int8"]).values():
        assert [spec.dtype for spec in signature.inputs] == ["int32", "int32"]
        (logits,) = signature.outputs
        assert logits.dtype == "int8"
        assert logits.quantization is not None


def test_a_model_without_weights_keeps_no_promise() -> None:
    empty = Content(min_runtime="2.0.0", ops={}, weight_dtypes={}, float_ops={})
    with pytest.raises(GateRefused, match="promises int8 weights"):
        flatbuffer.check_profile(empty, "dynamic_int8")


def test_a_model_that_does_not_tell_its_oldest_runtime_is_refused(
    converted: dict[Profile, bytes],
) -> None:
    import flatbuffers

    parsed = schema.ModelT.InitFromPackedBuf(converted["float32"], 0)
    parsed.metadata = []
    builder = flatbuffers.Builder()
    builder.Finish(parsed.Pack(builder), b"TFL3")
    with pytest.raises(GateRefused, match="did not write the oldest runtime"):
        flatbuffer.inspect(bytes(builder.Output()))
