"""Laws of `tensorseek.v1.Inference`: right answers in order, one clear error for each bad input,
and a gateway that still answers afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from bundle import manifest
from bundle.postprocess import rank_labels
from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving import tensors

Code = grpc.StatusCode
PREDICT = "/tensorseek.v1.Inference/Predict"
LONG = "a very good film , but a dull plot and not a great actor !"  # fills the bucket of 16


def request(*texts: str, model: str = "tiny", version: int = 0) -> inference_pb2.PredictRequest:
    inputs = [inference_pb2.Input(text=text) for text in texts]
    return inference_pb2.PredictRequest(model=model, version=version, inputs=inputs)


def tensor_input(**arrays: Any) -> inference_pb2.Input:
    named = {name: tensors.encode(np.asarray(array)) for name, array in arrays.items()}
    return inference_pb2.Input(tensors={"tensors": named})


def ids(*rows: list[int]) -> dict[str, Any]:
    return {"input_ids": np.int32(rows), "attention_mask": np.ones_like(np.int32(rows))}


@pytest.fixture
def stub(channel: grpc.Channel) -> InferenceStub:
    return InferenceStub(channel)


@pytest.fixture
def answers(stub: InferenceStub, expected: Callable[..., Any]) -> Callable[[], None]:
    """Checks that the gateway answers a plain call rightly."""

    def check() -> None:
        result = stub.Predict(request("a good film")).results[0].labels.labels
        best = rank_labels(expected("a good film")[None], ["negative", "positive"])[0]
        assert [item.label for item in result] == [item.label for item in best]
        assert result[0].score == pytest.approx(best[0].score, abs=1e-6)

    return check


def test_results_keep_the_order_of_inputs_over_mixed_lengths(
    stub: InferenceStub, serving: Any, expected: Callable[..., Any]
) -> None:
    texts = ["good", LONG, "bad", "awful dull", LONG + " fine", "great"]
    response = stub.Predict(request(*texts))
    for text, result in zip(texts, response.results, strict=True):
        best = rank_labels(expected(text)[None], ["negative", "positive"])[0]
        assert result.labels.labels[0].label == best[0].label
        assert result.labels.labels[0].score == pytest.approx(best[0].score, abs=1e-6)
    assert sorted(serving.shapes) == [(2, 16), (4, 8)]  # one call for each length
    assert (response.model, response.model_version) == ("tiny", 1)
    timings = response.timings
    assert 0 < timings.preprocess_ms + timings.backend_ms <= timings.total_ms


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        (request("a" * 1001), Code.INVALID_ARGUMENT, "inputs[0].text: has 1001 characters, the"),
        (request(""), Code.INVALID_ARGUMENT, "inputs[0].text: is empty"),
        (request(" \n"), Code.INVALID_ARGUMENT, "inputs[0].text: is empty"),
        (request("", " "), Code.INVALID_ARGUMENT, "inputs[0].text: is empty"),
        (request(), Code.INVALID_ARGUMENT, "inputs: is empty; send 1 to 1024"),
        (request("a", version=-1), Code.INVALID_ARGUMENT, "version: is -1"),
        (request("a", model="none"), Code.NOT_FOUND, "model: 'none' is not published; there are"),
        (request("a", model="x" * 9999), Code.NOT_FOUND, "model: 'xxx"),
        (request("a", version=9), Code.NOT_FOUND, "version: 9 of 'tiny' is not served; there are"),
        (request(*["a"] * 1025), Code.RESOURCE_EXHAUSTED, "inputs: 1025 in one call; the limit"),
        (
            inference_pb2.PredictRequest(model="tiny", inputs=[inference_pb2.Input()]),
            Code.INVALID_ARGUMENT,
            "inputs[0]: is empty; send `text`, `image` or `tensors`",
        ),
        (
            inference_pb2.PredictRequest(model="tiny", inputs=[inference_pb2.Input(image=b"x")]),
            Code.INVALID_ARGUMENT,
            "inputs[0].image: is not what this model takes; send `text`",
        ),
    ],
)
def test_bad_input_gets_its_status_and_a_message_that_names_the_field(
    stub: InferenceStub,
    answers: Callable[[], None],
    bad: inference_pb2.PredictRequest,
    code: grpc.StatusCode,
    message: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(bad)
    assert caught.value.code() is code
    assert caught.value.details().startswith(message)
    answers()


def test_text_that_is_not_utf8_is_named(channel: grpc.Channel, answers: Callable[[], None]) -> None:
    data = request("fine", "good", "bad").SerializeToString().replace(b"bad", b"b\xff\xfe")
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(data)
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert caught.value.details().startswith("inputs[2].text: is not valid UTF-8")
    answers()


def test_bytes_that_are_no_request_are_refused(
    channel: grpc.Channel, answers: Callable[[], None]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(b"\xff\xff\xff")
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert caught.value.details().startswith("request: is not a valid PredictRequest: ")
    answers()


def test_a_message_over_the_limit_is_refused_with_both_sizes(
    stub: InferenceStub, answers: Callable[[], None]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request("a" * (5 << 20)))
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
    assert str(4 << 20) in caught.value.details()
    answers()


def test_inputs_that_are_wrong_fail_alone(
    stub: InferenceStub, expected: Callable[..., Any]
) -> None:
    bad = request("good", "", "x" * 2000)
    bad.inputs.append(tensor_input(input_ids=np.float32([[1]])))
    bad.inputs.append(inference_pb2.Input(text="bad"))
    results = stub.Predict(bad).results
    kinds = [result.WhichOneof("value") for result in results]
    assert kinds == ["labels", "error", "error", "error", "labels"]
    assert [result.error.field for result in results[1:4]] == [
        "inputs[1].text",
        "inputs[2].text",
        "inputs[3].tensors['attention_mask']",
    ]
    assert {result.error.code for result in results[1:4]} == {3}
    assert results[1].error.message == "is empty; send at least one visible character"
    best = rank_labels(expected("bad")[None], ["negative", "positive"])[0][0]
    assert results[4].labels.labels[0].label == best.label


def test_tensors_are_forwarded_and_answered_as_tensors(
    stub: InferenceStub, expected: Callable[..., Any]
) -> None:
    own = request("good")
    own.inputs.append(tensor_input(**ids([2, 9, 3], [2, 12, 3])))
    results = stub.Predict(own).results
    logits = tensors.decode(results[1].tensors.tensors["logits"])
    assert results[0].HasField("labels")
    assert logits.shape == (2, 2)
    assert logits.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"input_ids": np.int32([[1]])}, "['attention_mask']: is missing"),
        (ids([1]) | {"x" * 99: np.int32([[1]])}, f"['{'x' * 64}']: is unknown; send input_ids"),
        (ids([1]) | {"input_ids": np.int64([[1]])}, "['input_ids']: is int64 [1, 1]; send int32"),
        (ids([1]) | {"input_ids": np.int32([1])}, "['input_ids']: is int32 [1]; send int32 [?, ?]"),
        (ids([99]), ": the model refuses them: ids are not in [0, 32)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    stub: InferenceStub, arrays: dict[str, Any], message: str
) -> None:
    bad = inference_pb2.PredictRequest(model="tiny", inputs=[tensor_input(**arrays)])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(bad)
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"inputs[0].tensors{message}")
    assert "{{node" not in caught.value.details()


def test_a_tensor_message_that_lies_about_its_size_is_named(stub: InferenceStub) -> None:
    bad = inference_pb2.PredictRequest(model="tiny", inputs=[tensor_input(**ids([1]))])
    bad.inputs[0].tensors.tensors["input_ids"].shape[:] = [1 << 40, 1 << 40]
    with pytest.raises(grpc.RpcError, match=r"inputs\[0\].tensors\['input_ids'\].shape: is"):
        stub.Predict(bad)


def test_a_slow_backend_costs_the_caller_no_more_than_its_deadline(
    stub: InferenceStub, serving: Any, answers: Callable[[], None]
) -> None:
    serving.gate.clear()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request("good"), timeout=0.5)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    assert caught.value.details().startswith("no answer within 0.4")  # the gateway's own words
    assert 0 < serving.left_s[-1] < 0.5
    serving.gate.set()
    answers()


def test_a_call_without_a_deadline_gets_the_default_one(stub: InferenceStub, serving: Any) -> None:
    stub.Predict(request("good"))
    assert 25 < serving.left_s[-1] <= 30


def test_cancelling_a_call_cancels_it_at_the_backend(
    stub: InferenceStub, serving: Any, answers: Callable[[], None]
) -> None:
    serving.gate.clear()
    call = stub.Predict.future(request("good", LONG))
    assert serving.entered.acquire(timeout=10)
    assert serving.entered.acquire(timeout=10)
    call.cancel()
    assert serving.abandoned.acquire(timeout=10)
    assert serving.abandoned.acquire(timeout=10)
    serving.gate.set()
    answers()


def test_a_backend_that_goes_and_comes_back_is_used_again(
    stub: InferenceStub,
    serving: Any,
    answers: Callable[[], None],
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    answers()
    serving.stop()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request("good"))
    assert caught.value.code() is Code.UNAVAILABLE
    assert caught.value.details() == "the backend does not answer now; try again later"
    serving.start()

    def works() -> bool:
        try:
            stub.Predict(request("good"))
        except grpc.RpcError as error:
            if error.code() is not Code.UNAVAILABLE:
                raise
            return False
        return True

    eventually(works)
    answers()


def test_a_backend_that_was_never_there_is_unavailable(
    make_config: Callable[..., Any], running: Callable[..., Any], serving: Any
) -> None:
    serving.stop()
    with (
        running(make_config()) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
        pytest.raises(grpc.RpcError, match="the backend has none of it now") as caught,
    ):
        InferenceStub(channel).Predict(request("good"))
    assert caught.value.code() is Code.UNAVAILABLE


def test_no_call_fails_while_versions_are_swapped(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    serving: Any,
    models: Path,
    publish_plain: Callable[..., int],
    expected: Callable[..., Any],
) -> None:
    """The gateway looks around once an hour: only the backend's NOT_FOUND tells it."""

    def swap() -> None:
        publish_plain(models)
        serving.served["tiny"] = {2}

    with (
        running(make_config(poll_s=3600)) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
    ):
        stub = InferenceStub(channel)
        assert stub.Predict(request("good")).model_version == 1
        serving.swap = swap
        pending = [stub.Predict.future(request("good", LONG)) for _ in range(20)]
        for response in (call.result() for call in pending):
            best = rank_labels(
                expected("good", response.model_version)[None], ["negative", "positive"]
            )[0][0]
            found = response.results[0].labels.labels[0]
            assert (found.label, round(found.score, 5)) == (best.label, round(best.score, 5))
        assert stub.Predict(request("good")).model_version == 2
        with pytest.raises(grpc.RpcError, match="version: 1 of 'tiny' is not served") as caught:
            stub.Predict(request("good", version=1))
        assert caught.value.code() is Code.NOT_FOUND


def test_too_many_calls_at_once_are_refused_by_the_limits_name(
    make_config: Callable[..., Any], running: Callable[..., Any], serving: Any
) -> None:
    with (
        running(make_config(max_in_flight=1)) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
    ):
        stub = InferenceStub(channel)
        serving.gate.clear()
        first = stub.Predict.future(request("good"))
        assert serving.entered.acquire(timeout=10)
        with pytest.raises(grpc.RpcError, match="already answers max_in_flight=1") as caught:
            stub.Predict(request("good"))
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        serving.gate.set()
        assert first.result().model_version == 1


def test_nothing_internal_reaches_the_caller(
    stub: InferenceStub, serving: Any, answers: Callable[[], None]
) -> None:
    serving.fault = (Code.INTERNAL, "Traceback: /secret/path")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request("good"))
    assert caught.value.code() is Code.INTERNAL
    assert caught.value.details() == "internal error; see the server's log"
    serving.fault = None
    answers()


def test_many_threads_get_their_own_answers(
    stub: InferenceStub, expected: Callable[..., Any]
) -> None:
    texts = ["good", "bad", LONG, "awful film", "great actor", "dull"]
    scores: dict[str, float] = {}

    def ask(text: str) -> None:
        for _ in range(10):
            (result,) = stub.Predict(request(text)).results
            scores[text] = {item.label: item.score for item in result.labels.labels}["positive"]

    threads = [threading.Thread(target=ask, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text in texts:
        logits = expected(text).astype(float)
        positive = 1 / (1 + np.exp(logits[0] - logits[1]))
        assert scores[text] == pytest.approx(positive, abs=1e-5)


def test_models_are_listed_and_shown(
    stub: InferenceStub, models: Path, publish_plain: Callable[..., int], serving: Any
) -> None:
    (summary,) = stub.ListModels(inference_pb2.ListModelsRequest()).models
    assert (summary.name, summary.task) == ("tiny", "text-classification")
    assert (list(summary.versions), summary.serving_version) == ([1], 1)
    shown = stub.GetModel(inference_pb2.GetModelRequest(model="tiny"))
    assert (shown.name, shown.version, shown.task) == ("tiny", 1, "text-classification")
    assert list(shown.labels) == ["negative", "positive"]
    assert manifest.decode(shown.manifest_json.encode(), "test").version == 1
    with pytest.raises(grpc.RpcError, match="model: 'none' is not published; there are: tiny"):
        stub.GetModel(inference_pb2.GetModelRequest(model="none"))
