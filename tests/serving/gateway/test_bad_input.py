"""Law: whatever comes in, a caller gets a named status, the gateway answers the next one as before,
and takes no more memory than its bounds allow.
"""

from __future__ import annotations

import io
import json
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks import idle_connections
from bundle.errors import InputError
from bundle.manifest import ImagePreprocess
from bundle.preprocess import ImagePreprocessor
from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving.errors import ConfigError
from serving.gateway import access
from serving.gateway.config_file import Source

Code = grpc.StatusCode
NAMED = {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED}
METHODS = ("Predict", "PredictStream", "Generate", "ListModels", "GetModel")
MOST_GROWTH_BYTES = 100 << 20


def request(text: str = "good") -> inference_pb2.PredictRequest:
    return inference_pb2.PredictRequest(model="tiny", inputs=[inference_pb2.Input(text=text)])


def tensors_request() -> inference_pb2.PredictRequest:
    tensor = inference_pb2.Tensor(dtype="DTYPE_INT32", shape=[1, 2], data=b"\2\0\0\0\3\0\0\0")
    named = {"input_ids": tensor, "attention_mask": tensor}
    inputs = [inference_pb2.Input(tensors={"tensors": named})]
    return inference_pb2.PredictRequest(model="tiny", inputs=inputs)


GOOD = (
    request().SerializeToString(),
    tensors_request().SerializeToString(),
    inference_pb2.GetModelRequest(model="tiny", version=1).SerializeToString(),
    inference_pb2.GenerateRequest(model="tiny", prompt="a", stop=["b"]).SerializeToString(),
)


@st.composite
def spoilt(draw: Any) -> bytes:
    """A good message with some bytes in the place of others."""
    good = draw(st.sampled_from(GOOD))
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(good))] * 2)))
    return bytes(good[:begin] + draw(st.binary(max_size=12)) + good[end:])


def status(call: Callable[[], Any]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return Code.OK


def test_any_bytes_in_any_method_get_a_named_status(channel: grpc.Channel) -> None:
    def ask(method: str, data: bytes) -> None:
        path = f"/tensorseek.v1.Inference/{method}"
        if method == "PredictStream":
            list(channel.stream_stream(path)(iter([data]), timeout=20))
        elif method == "Generate":
            list(channel.unary_stream(path)(data, timeout=20))
        else:
            channel.unary_unary(path)(data, timeout=20)

    @settings(max_examples=200)
    @given(st.sampled_from(METHODS), st.binary(max_size=60) | spoilt())
    def check(method: str, data: bytes) -> None:
        assert status(lambda: ask(method, data)) in NAMED

    check()
    assert InferenceStub(channel).Predict(request()).results[0].labels.labels


def test_any_tensor_gets_a_named_status(channel: grpc.Channel) -> None:
    """Also one that says it is larger than it is, or far too large."""

    @settings(max_examples=100)
    @given(
        dtype=st.integers(-1, 20),
        shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 1 << 20, 1 << 62]), max_size=9),
        data=st.binary(max_size=16),
    )
    @example(dtype=7, shape=[0, 0], data=b"")
    def check(dtype: int, shape: list[int], data: bytes) -> None:
        asked = tensors_request()
        tensor = asked.inputs[0].tensors.tensors["input_ids"]
        tensor.CopyFrom(inference_pb2.Tensor(dtype=dtype, shape=shape, data=data))
        assert status(lambda: InferenceStub(channel).Predict(asked, timeout=20)) in NAMED

    check()


def test_any_body_over_http_gets_a_named_status(gateway: Any) -> None:
    url = f"http://127.0.0.1:{gateway.http_port}/v1/models/tiny:predict"
    good = json.dumps({"inputs": [{"text": "good"}]}).encode()

    @settings(max_examples=60)
    @given(st.binary(max_size=30), st.integers(0, len(good)), st.integers(0, len(good)))
    @example(b"[" * 100_000, 0, 40)
    @example(b'{"inputs": [{"image": "' + b"A" * 999 + b'"}]}', 0, 40)
    def check(noise: bytes, begin: int, end: int) -> None:
        data = good[:begin] + noise + good[end:]
        try:
            urllib.request.urlopen(urllib.request.Request(url, data), timeout=20)
        except urllib.error.HTTPError as error:
            assert error.code in {400, 404, 429}  # noqa: PT017
            named = {code.name for code in NAMED}
            assert json.loads(error.read())["error"]["code"] in named  # noqa: PT017

    check()


def picture(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, kind, **options)
    return file.getvalue()


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that say they are 65,000 pixels wide and high, or as many as the format has."""
    png = picture("PNG")
    header = b"IHDR" + struct.pack(">II", 65_000, 65_000) + png[24:29]
    crc = struct.pack(">I", zlib.crc32(header))
    yield "png", png[:12] + header + crc + png[33:]
    jpeg = picture("JPEG")
    frame = jpeg.index(b"\xff\xc0")
    yield "jpeg", jpeg[: frame + 5] + struct.pack(">HH", 65_000, 65_000) + jpeg[frame + 9 :]
    webp = picture("WEBP", lossless=True)
    place = webp.index(b"VP8L") + 9  # 14 bits of width - 1, 14 of height - 1
    bits = int.from_bytes(webp[place : place + 4], "little") & ~((1 << 28) - 1) | (1 << 28) - 1
    yield "webp", webp[:place] + bits.to_bytes(4, "little") + webp[place + 4 :]


@pytest.mark.parametrize("data", dict(bombs()).values(), ids=dict(bombs()))
def test_a_picture_that_would_take_too_much_memory_is_refused_unread(
    data: bytes, peak_growth: Callable[[], Callable[[], int]]
) -> None:
    preprocessor = ImagePreprocessor(ImagePreprocess(height=4, width=6))
    grown_bytes = peak_growth()
    with pytest.raises(InputError, match=r"^image: (has .* pixels|is no|is damaged)"):
        preprocessor([data])
    assert grown_bytes() < MOST_GROWTH_BYTES


def test_pictures_of_many_callers_are_unpacked_one_after_the_other(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    serving: Any,
    models: Path,
    publish_plain: Callable[..., int],
    peak_growth: Callable[[], Callable[[], int]],
) -> None:
    """A picture that may be sent takes much for a while: not times the callers."""
    spec = ImagePreprocess(height=4, width=6)
    publish_plain(models, name="eyes", task="image-classification", preprocess=spec)
    serving.served["eyes"] = {1}
    file = io.BytesIO()
    Image.new("RGBA", (2500, 2500)).save(file, "WEBP", lossless=True)
    assert file.tell() < 1000
    grown_bytes = peak_growth()
    ImagePreprocessor(spec)([file.getvalue()])
    of_one = grown_bytes()
    asked = inference_pb2.PredictRequest(model="eyes", inputs=[{"image": file.getvalue()}])
    with (
        running(make_config()) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
    ):
        calls = [InferenceStub(channel).Predict.future(asked, timeout=60) for _ in range(6)]
        assert all(call.exception() for call in calls)  # our backend has no eyes
    assert grown_bytes() < 2 * of_one


@settings(max_examples=150)
@given(
    st.sampled_from([picture(kind) for kind in ("PNG", "JPEG", "WEBP")]),
    st.integers(0, 400),
    st.binary(max_size=8),
    st.integers(0, 8),
)
def test_any_picture_is_read_or_refused_by_name(
    good: bytes, place: int, noise: bytes, gone: int
) -> None:
    preprocessor = ImagePreprocessor(ImagePreprocess(height=4, width=6))
    try:
        found = preprocessor([good[:place] + noise + good[place + gone :]])["pixels"]
    except InputError as error:
        assert error.field == "image"  # noqa: PT017
    else:
        assert found.shape == (1, 4, 6, 3)


yaml_texts = st.binary(max_size=40) | st.text(max_size=40).map(str.encode)
LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n".encode()
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@settings(max_examples=100)
@given(yaml_texts | yaml_texts.map(lambda text: b"keys: [{name: a, id: b, sha256: " + text + b"}]"))
@example(b"[" * 5000)
@example(LAUGHS)
@example(b"keys: " + b"9" * 5000)
@example(b"keys: [{name: a, id: b, sha256: 2001-99-99}]")
def test_any_file_of_keys_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "keys.yaml"
    path.write_bytes(data)
    try:
        access.read(path)
    except ConfigError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017


@settings(max_examples=100)
@given(yaml_texts | yaml_texts.map(lambda text: b"models: .\nbackend: a:1\nversions: " + text))
@example(b"[" * 5000)
@example(LAUGHS)
@example(b"models: .\nbackend: a:1\nport: " + b"9" * 5000)
@example(b"models: .\nbackend: a:1\nversions: {a: {split: {1: .inf}}}")
@example(b'models: "a\\0b"\nbackend: a:1\n')
def test_any_configuration_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "gateway.yaml"
    path.write_bytes(data)
    try:
        Source(path).load()
    except ConfigError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017


def test_a_storm_of_calls_that_are_given_up_leaves_nothing_behind(
    gateway: Any, channel: grpc.Channel, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    stub = InferenceStub(channel)
    for _ in range(5):
        calls = [stub.Predict.future(request("a very good film"), timeout=20) for _ in range(100)]
        for call in calls:
            call.cancel()
        stub.PredictStream(iter([request()] * 50), timeout=20).cancel()

    def metric(name: str) -> float:
        url = f"http://127.0.0.1:{gateway.http_port}/metrics"
        text = urllib.request.urlopen(url, timeout=20).read().decode()
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(line.split()[1])

    eventually(lambda: metric("tensorseek_in_flight") == 0)
    assert stub.Predict(request(), timeout=20).model_version == 1


def test_connections_that_ask_nothing_keep_nobody_out(gateway: Any, channel: grpc.Channel) -> None:
    """A thousand here; `benchmarks.soak` holds ten times as many."""
    with idle_connections.opened(gateway.port, 1000) as count:
        assert count == 1000
        assert InferenceStub(channel).Predict(request(), timeout=20).model_version == 1
