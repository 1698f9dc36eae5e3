"""Laws of the client: typed answers, and one error of the tree for each status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from bundle.postprocess import rank_labels
from serving.client import Client
from serving.errors import (
    BackendFault,
    BackendUnavailable,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    ServingError,
    UnknownModel,
)


@pytest.fixture
def client(gateway: Any) -> Iterator[Client]:
    with Client(f"127.0.0.1:{gateway.port}", timeout_s=20) as client:
        yield client


def test_predictions_are_typed_and_in_order(client: Client, expected: Callable[..., Any]) -> None:
    texts = ["a good film", "awful", "not dull at all"]
    found = client.predict("tiny", texts)
    for text, result in zip(texts, found.results, strict=True):
        assert not isinstance(result, ServingError)
        best = rank_labels(expected(text)[None], ["negative", "positive"])[0]
        assert [item.label for item in result] == [item.label for item in best]
        assert result[0].score == pytest.approx(best[0].score, abs=1e-6)
    assert (found.model, found.version) == ("tiny", 1)
    assert 0 < found.timings.backend_ms < found.timings.total_ms


def test_a_text_that_is_wrong_is_its_own_error(client: Client) -> None:
    good, bad = client.predict("tiny", ["good", ""]).results
    assert not isinstance(good, ServingError)
    assert isinstance(bad, InvalidArgument)
    assert bad.field == "inputs[1].text"
    assert bad.problem.startswith("is empty")


@pytest.mark.parametrize(
    ("model", "texts", "version", "kind", "message"),
    [
        ("none", ["good"], 0, UnknownModel, "model: 'none' is not published; there are: tiny"),
        ("tiny", ["good"], 5, UnknownModel, "version: 5 of 'tiny' is not served; there are: 1"),
        ("tiny", [""], 0, InvalidArgument, "inputs[0].text: is empty"),
        ("tiny", [], 0, InvalidArgument, "inputs: is empty"),
        ("tiny", ["good", "\ud800"], 0, InvalidArgument, "inputs[1].text: can't be written"),
        ("tiny", ["x"] * 2000, 0, LimitExceeded, "inputs: 2000 in one call"),
        ("tiny", ["x" * (5 << 20)], 0, LimitExceeded, ""),
    ],
)
def test_each_refusal_is_one_error_with_the_gateways_words(
    client: Client,
    model: str,
    texts: list[str],
    version: int,
    kind: type[ServingError],
    message: str,
) -> None:
    with pytest.raises(kind) as caught:
        client.predict(model, texts, version)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(message)


def test_a_gateway_that_is_not_there_is_unavailable() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(BackendUnavailable):
        client.models()


def test_a_fault_of_the_server_is_one_error(client: Client, serving: Any) -> None:
    serving.fault = (grpc.StatusCode.INTERNAL, "secret")
    with pytest.raises(BackendFault, match="internal error; see the server's log"):
        client.predict("tiny", ["good"])


def test_time_is_limited(gateway: Any, serving: Any) -> None:
    serving.gate.clear()
    with (
        Client(f"127.0.0.1:{gateway.port}", timeout_s=0.3) as client,
        pytest.raises(DeadlineExceeded, match="no answer within"),
    ):
        client.predict("tiny", ["good"])


def test_models_and_their_manifests(client: Client) -> None:
    (model,) = client.models()
    assert (model.name, model.task) == ("tiny", "text-classification")
    assert (model.versions, model.serving_version) == ([1], 1)
    assert client.model("tiny").labels == ("negative", "positive")
    with pytest.raises(UnknownModel, match="model: 'none'"):
        client.model("none")


def test_it_needs_no_tensorflow() -> None:
    code = "import sys; sys.modules['tensorflow'] = None; import serving.client"
    subprocess.run([sys.executable, "-c", code], check=True)
