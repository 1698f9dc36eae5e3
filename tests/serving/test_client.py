"""Laws of the client: typed answers, and one error of the tree for each status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bundle.postprocess import rank_labels
from serving import answers
from serving.client import Client, Tls
from serving.errors import (
    BackendFault,
    BackendUnavailable,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    ServingError,
    Unauthenticated,
    UnknownModel,
)
from serving.gateway import access
from serving.gateway import config as gateway_config


def scores(result: Any) -> Any:
    """What is compared of one result."""
    return [(item.label, pytest.approx(item.score, abs=1e-6)) for item in result]


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
    with Client("127.0.0.1:1", retries=1) as client, pytest.raises(BackendUnavailable):
        client.models()


def failing(serving: Any, code: grpc.StatusCode, times: int) -> Callable[[], int]:
    """Has the backend answer so for a while; returns what tells how often it was asked."""
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += 1
        serving.swap = count
        serving.fault = (code, "not now") if asked <= times else None

    serving.swap = count
    return lambda: asked


def test_what_is_away_for_a_moment_is_asked_again(client: Client, serving: Any) -> None:
    asked = failing(serving, grpc.StatusCode.UNAVAILABLE, 4)  # one more than the gateway tries
    assert client.predict("tiny", ["good"]).labels
    assert asked() == 5


def test_a_limit_that_stays_is_not_run_into_again(
    client: Client, serving: Any, gateway: Any
) -> None:
    asked = failing(serving, grpc.StatusCode.RESOURCE_EXHAUSTED, 100)
    with pytest.raises(LimitExceeded, match="not now") as caught:
        client.predict("tiny", ["good"])
    assert (asked(), caught.value.retry_after_s) == (1, None)


def test_many_inputs_are_answered_in_order_and_read_as_they_are(
    client: Client, expected: Callable[..., Any]
) -> None:
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for number in range(200):
            read += 1
            yield "" if number == 150 else ("good " * (number % 7 + 1)).strip()

    for place, result in enumerate(client.predict_many("tiny", texts(), batch=8, in_flight=3)):
        assert read <= place + 8 * 3 + 8 + 1
        if place == 150:
            assert isinstance(result, InvalidArgument)
            assert result.field == "inputs[150].text"
            continue
        assert not isinstance(result, ServingError)
        assert isinstance(result, list)
        logits = expected(("good " * (place % 7 + 1)).strip())
        best = rank_labels(logits[None], ["negative", "positive"])[0]
        assert [item.label for item in result] == [item.label for item in best]
        assert result[0].score == pytest.approx(best[0].score, abs=1e-5)
    assert (place, read) == (199, 200)


def test_a_part_whose_every_input_is_wrong_ends_nothing(client: Client) -> None:
    texts = ["good", "x" * 5000, "", "good"]
    good, long, empty, last = client.predict_many("tiny", texts, batch=1)
    assert not isinstance(good, ServingError)
    assert not isinstance(last, ServingError)
    assert str(long).startswith("inputs[1].text: has 5000 characters")
    assert str(empty).startswith("inputs[2].text: is empty")


def test_parts_are_bounded_in_bytes_too() -> None:
    texts = ["a" * 100, "b" * 100, b"c" * 5000, "d"]
    parts = answers.requests("tiny", texts, 0, most=3, most_bytes=1000)
    assert [(first, len(request.inputs)) for first, request in parts] == [(0, 2), (2, 1), (3, 1)]


def test_a_request_that_fails_as_a_whole_ends_it(client: Client) -> None:
    with pytest.raises(UnknownModel, match="model: 'none'"):
        list(client.predict_many("none", ["good"] * 5, batch=2))


def test_an_answer_that_does_not_come_is_not_awaited_for_ever(gateway: Any, serving: Any) -> None:
    with Client(f"127.0.0.1:{gateway.port}", timeout_s=0.3) as client:
        results = client.predict_many("tiny", ["good"] * 3, batch=1)
        serving.gate.clear()
        with pytest.raises(DeadlineExceeded, match="no answer within"):
            list(results)


def test_what_a_gateway_left_unanswered_the_next_one_answers(
    make_config: Callable[..., Any], running: Callable[..., Any]
) -> None:
    texts = ["good " * (number % 7 + 1) for number in range(40)]
    with running(make_config(drain_s=0.1)) as gateway:
        port = gateway.port
        client = Client(f"127.0.0.1:{port}", retries=4)
        whole = [scores(each) for each in client.predict_many("tiny", texts)]
        results = client.predict_many("tiny", texts, batch=2, in_flight=3)
        found = [next(results)]
    with running(make_config(port=port)), client:
        found += results
    assert [scores(each) for each in found] == whole


def test_a_key_and_certificates_open_a_gateway_that_asks_for_them(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    self_signed: Callable[[], tuple[str, str]],
    tmp_path: Path,
) -> None:
    files = {}
    for side in ("gateway", "client"):
        for kind, text in zip(("key", "certificate"), self_signed(), strict=True):
            files[side, kind] = tmp_path / f"{side}-{kind}.pem"
            files[side, kind].write_text(text)
    key = access.add(tmp_path / "keys.yaml", "app")
    asked = gateway_config.Tls(
        certificate=files["gateway", "certificate"],
        key=files["gateway", "key"],
        client_ca=files["client", "certificate"],
    )
    known = Tls(ca=files["gateway", "certificate"])
    proven = Tls(
        ca=files["gateway", "certificate"],
        certificate=files["client", "certificate"],
        private_key=files["client", "key"],
    )
    with running(make_config(tls=asked, keys=tmp_path / "keys.yaml")) as gateway:
        address = f"localhost:{gateway.port}"
        with Client(address, tls=proven, key=key) as client:
            assert client.predict("tiny", ["good"]).labels
        with Client(address, tls=proven) as client, pytest.raises(Unauthenticated):
            client.predict("tiny", ["good"])
        for unproven in (known, None):
            with (
                Client(address, tls=unproven, key=key, retries=0) as client,
                pytest.raises(BackendUnavailable),
            ):
                client.predict("tiny", ["good"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout_s": 0}, "timeout_s: is 0; give seconds above 0"),
        ({"retries": 9}, "retries: is 9; give 0 to 4"),
        ({"key": "ts_1_2\n"}, "key: has characters that no key has"),
        ({"tls": Tls(ca=Path("none.pem"))}, "tls: none.pem: can't be read"),
    ],
)
def test_a_wrong_setting_is_named(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Client("127.0.0.1:1", **settings)


def test_half_a_certificate_is_refused() -> None:
    with pytest.raises(ConfigError, match="certificate and private_key belong together"):
        Tls(certificate=Path("a.pem"))


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
