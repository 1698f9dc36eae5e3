"""Law: what docs/gateway.md has people type gets the answer it promises, from a live gateway."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from serving.gateway.config_file import Source

PAGE = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    text = "".join(blocks("console")).replace("\\\n", " ")
    lines = re.findall(rf"^\$ ({program} .*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.fixture
def ports(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    models: Path,
    publish_plain: Callable[..., int],
    serving: Any,
) -> Iterator[Mapping[str, str]]:
    """Where a gateway with the page's model listens, by what the page says."""
    publish_plain(models, name="movie-sentiment")
    serving.served["movie-sentiment"] = {1}
    with running(make_config()) as gateway:
        yield {
            "127.0.0.1:9000": f"127.0.0.1:{gateway.port}",
            "127.0.0.1:9001": f"127.0.0.1:{gateway.http_port}",
        }


def placed(text: str, ports: Mapping[str, str]) -> str:
    for said, real in ports.items():
        text = text.replace(said, real)
    return text


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_labels(ports: Mapping[str, str]) -> None:
    (command,) = commands("curl")
    words = [placed(word, ports) for word in [*command, "--silent", "--noproxy", "*"]]
    done = subprocess.run(words, capture_output=True, check=True, timeout=20)
    assert labels(json.loads(done.stdout))


def test_grpcurl_gets_an_answer(ports: Mapping[str, str]) -> None:
    """By what it does itself: it asks the server what the messages are."""
    answers = []
    for program, plain, flag, data, address, method in commands("grpcurl"):
        assert (program, plain, flag) == ("grpcurl", "-plaintext", "-d")
        with grpc.insecure_channel(placed(address, ports)) as channel:
            answers.append(ask(channel, method, data))
    assert len(answers) == 2
    assert labels(answers[0])
    assert answers[1] == {"status": "SERVING"}


def test_python_gets_labels(ports: Mapping[str, str]) -> None:
    (program,) = blocks("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(placed(program, ports), {})  # noqa: S102  (our own page)
    assert "positive" in printed.getvalue()


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    (tmp_path / "models").mkdir()
    (tmp_path / "tls").mkdir()
    for name in ("keys.yaml", "tls/chain.pem", "tls/key.pem", "tls/clients.pem"):
        (tmp_path / name).write_text("")
    (tmp_path / "gateway.yaml").write_text(text)
    config = Source(tmp_path / "gateway.yaml").load()
    assert config.addresses("reviews") == ("reviews-serving:8500",)


def labels(answer: Any) -> list[str]:
    return [item["label"] for item in answer["results"][0]["labels"]["labels"]]


def ask(channel: grpc.Channel, method: str, data: str) -> Any:
    service, name = method.split("/")
    asked = ServerReflectionRequest(file_containing_symbol=service)
    (found,) = ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
    pool = descriptor_pool.DescriptorPool()
    for file in reversed(found.file_descriptor_response.file_descriptor_proto):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file))
    described = pool.FindServiceByName(service).methods_by_name[name]
    request, response = (
        message_factory.GetMessageClass(each)
        for each in (described.input_type, described.output_type)
    )
    call = channel.unary_unary(f"/{method}", request.SerializeToString, response.FromString)
    answer = call(json_format.Parse(data, request()), timeout=20)
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)
