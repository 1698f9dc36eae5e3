"""Laws of JSON over HTTP: the same answers and refusals as over gRPC, and no other crash."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bundle.manifest import ImagePreprocess
from bundle.postprocess import rank_labels
from serving.errors import InvalidArgument
from serving.gateway import access
from serving.gateway.json_api import parse

Post = Callable[..., tuple[int, Any]]


@pytest.fixture
def post(gateway: Any) -> Post:
    return poster(gateway)


def poster(gateway: Any) -> Post:
    def send(body: Any, model: str = "tiny", **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"http://127.0.0.1:{gateway.http_port}/v1/models/{model}:predict"
        request = urllib.request.Request(url, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]

    return send


def test_texts_are_answered_as_over_grpc(post: Post, expected: Callable[..., Any]) -> None:
    status, answer = post({"inputs": [{"text": "a good film"}, {"text": ""}]})
    best = rank_labels(expected("a good film")[None], ["negative", "positive"])[0]
    assert status == 200
    assert (answer["model"], answer["model_version"]) == ("tiny", "1")
    found = answer["results"][0]["labels"]["labels"]
    assert [item["label"] for item in found] == [item.label for item in best]
    assert found[0]["score"] == pytest.approx(best[0].score, abs=1e-6)
    assert answer["results"][1]["error"]["field"] == "inputs[1].text"


@pytest.mark.parametrize(
    ("body", "model", "status", "code", "message"),
    [
        (b"", "tiny", 400, "INVALID_ARGUMENT", "request: is no PredictRequest as JSON"),
        (b"\xff", "tiny", 400, "INVALID_ARGUMENT", "request: is no PredictRequest"),
        (b"[" * 100_000, "tiny", 400, "INVALID_ARGUMENT", "request: is no PredictRequest"),
        ({"inpts": []}, "tiny", 400, "INVALID_ARGUMENT", '.*no field named "inpts"'),
        ({"inputs": [{"text": 5}]}, "tiny", 400, "INVALID_ARGUMENT", "request: is no"),
        ({"inputs": []}, "tiny", 400, "INVALID_ARGUMENT", "inputs: is empty"),
        ({"inputs": [{"text": ""}]}, "tiny", 400, "INVALID_ARGUMENT", "inputs.0..text: is empty"),
        ({"model": "x", "inputs": []}, "tiny", 400, "INVALID_ARGUMENT", "model: is 'x', the path"),
        ({"inputs": [{"text": "a"}]}, "none", 404, "NOT_FOUND", "model: 'none' is not published"),
        ({"inputs": [{"text": "a"}], "version": 9}, "tiny", 404, "NOT_FOUND", "version: 9"),
        ({"inputs": [{"text": "a"}] * 1025}, "tiny", 429, "RESOURCE_EXHAUSTED", "inputs: 1025"),
        ({"inputs": [{"text": "x" * (5 << 20)}]}, "tiny", 429, "RESOURCE_EXHAUSTED", "request: is"),
    ],
)
def test_each_refusal_has_a_status_and_a_message(
    post: Post, body: Any, model: str, status: int, code: str, message: str
) -> None:
    import re

    found, error = post(body, model)
    assert (found, error["code"]) == (status, code)
    assert re.match(message, error["message"]), error["message"]
    assert post({"inputs": [{"text": "good"}]})[0] == 200


def test_pictures_travel_as_base64(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    serving: Any,
    models: Any,
    publish_plain: Callable[..., int],
) -> None:
    spec = ImagePreprocess(height=4, width=6)
    publish_plain(models, name="eyes", task="image-classification", preprocess=spec)
    serving.served["eyes"] = {1}
    file = io.BytesIO()
    Image.effect_noise((90, 50), 50).save(file, "PNG")
    with running(make_config()) as gateway:
        post = poster(gateway)
        for data, problem in ((b"no picture", "is no JPEG"), (file.getvalue()[:900], "is damaged")):
            text = base64.b64encode(data).decode()
            error = post({"inputs": [{"image": text}]}, "eyes")[1]
            assert error["message"].startswith(f"inputs[0].image: {problem}")


def test_keys_are_asked_here_too(
    make_config: Callable[..., Any], running: Callable[..., Any], tmp_path: Any
) -> None:
    key = access.add(tmp_path / "keys.yaml", "app", rate_per_s=0.1)
    body = {"inputs": [{"text": "good"}]}
    with running(make_config(keys=tmp_path / "keys.yaml")) as gateway:
        post = poster(gateway)
        assert post(body)[0] == 401
        assert post(body, Authorization=f"Bearer {key}")[0] == 200
        assert post(body, Authorization=f"Bearer {key}")[0] == 429


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "text", "image", "tensors", "version", "model", "dtype", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
@example(b"9" * 5000)
@example(b'{"version": 1e400}')
@example(b'{"inputs": [{"tensors": {"tensors": {"a": {"dtype": 99, "shape": [-1]}}}}]}')
@settings(max_examples=60)
def test_no_json_makes_another_error(data: bytes) -> None:
    said = "request: is no PredictRequest as JSON: "
    try:
        parse(data)
    except InvalidArgument as error:
        said = str(error)
    assert said.startswith("request: is no PredictRequest as JSON: ")
