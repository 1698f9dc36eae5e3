"""Law: a command line of `tensorflow_model_server` starts ours, or is refused in one line.

That the program runs and ends is `tests/serving/backend/test_server.py`'s matter.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving.backend import flags
from serving.backend.batcher import Batching
from serving.backend.config import BackendConfig, Loading, Rest
from serving.backend.manager import Pace
from serving.backend.model_config import Listed
from serving.errors import ConfigError
from tensorseek import model_server

ROOT = Path(__file__).parents[2]


def read(*arguments: str) -> BackendConfig:
    return flags.read(flags.parser("server", "").parse_args(arguments))


def test_one_model_is_served_as_tensorflow_serving_does_by_default() -> None:
    config = read("--model_base_path=/models/m")
    assert config == BackendConfig(
        models=(Listed(name="default", base=Path("/models/m")),),
        host=flags.EVERYWHERE,
        port=8500,
        pace=Pace(poll_s=1, grace_s=0, load_threads=1, retries=5, retry_s=60),
        batching=None,
        loading=Loading(intra_op_threads=0, inter_op_threads=0),  # TensorFlow's own choice
        answer_values=True,
    )


@pytest.mark.parametrize("form", ["--{}={}", "--{} {}"])
def test_every_flag_is_taken_in_both_forms(tmp_path: Path, form: str) -> None:
    files = {
        "models": 'model_config_list { config { name: "m" base_path: "/m" '
        'model_platform: "tensorflow" } }',
        "batching": "max_batch_size { value: 8 } num_batch_threads { value: 2 }",
        "monitoring": 'prometheus_config { enable: true path: "/metrics" }',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    given = {
        "port": 18500,
        "rest_api_port": 18501,
        "rest_api_timeout_in_ms": 1500,
        "rest_api_enable_cors_support": "true",
        "grpc_socket_path": "run/socket",
        "grpc_channel_arguments": "grpc.max_connection_age_ms=2000,grpc.name=x,"
        "grpc.max_receive_message_length=-1",
        "model_name": "ignored",
        "model_base_path": "/ignored",
        "model_config_file": tmp_path / "models",
        "model_config_file_poll_wait_seconds": 5,
        "file_system_poll_wait_seconds": 3,
        "enable_batching": "true",
        "batching_parameters_file": tmp_path / "batching",
        "monitoring_config_file": tmp_path / "monitoring",
        "enable_grpc_healthcheck_service": "true",
        "prefer_tflite_model": "true",
        "num_load_threads": 4,
        "max_num_load_retries": 2,
        "load_retry_interval_micros": 500_000,
        "tensorflow_intra_op_parallelism": 2,
        "enable_model_warmup": "false",
        "enable_serialization_as_tensor_content": "true",
        "allow_version_labels_for_unavailable_models": "true",
        "flush_filesystem_caches": "false",
    }
    line = " ".join(form.format(*pair) for pair in given.items())
    assert read(*line.split()) == BackendConfig(
        models=(Listed(name="m", base=Path("/m")),),
        list_file=tmp_path / "models",
        list_poll_s=5,
        labels_for_unavailable=True,
        host=flags.EVERYWHERE,
        port=18500,
        socket=Path("run/socket"),
        grpc_arguments=(("grpc.max_connection_age_ms", 2000), ("grpc.name", "x")),
        rest=Rest(port=18501, timeout_s=1.5, metrics_path="/metrics", cors=True),
        pace=Pace(poll_s=3, grace_s=0, load_threads=4, retries=2, retry_s=0.5),
        batching=Batching(max_rows=8, slots=2, max_waiting=10),
        loading=Loading(prefer_tflite=True, warm_up=False, intra_op_threads=2, inter_op_threads=0),
        max_message_bytes=(1 << 31) - 1,
    )


def test_a_bool_may_stand_alone_and_what_has_no_effect_is_told() -> None:
    found = flags.parser("server", "").parse_args(
        ["--enable_batching", "--model_base_path", "/m", "--enable_profiler=false"]
    )
    batching = flags.read(found).batching
    assert batching
    assert (batching.max_rows, batching.max_waiting) == (1000, 10)
    assert flags.without_effect(found) == ["--enable_profiler"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model_base_path and --model_config_file are empty"),
        (["--model_base_path=s3://b/m"], "--model_base_path: s3://b/m is not on this machine"),
        (["--model_config_file=/nowhere"], "/nowhere: can't be read"),
        (
            ["--model_base_path=/m", "--batching_parameters_file=/b"],
            "--batching_parameters_file is set without setting --enable_batching",
        ),
        (
            ["--model_base_path=/m", "--port=1", "--rest_api_port=1"],
            "--rest_api_port cannot be same as --port",
        ),
        (["--model_base_path=/m", "--port=0"], "port: is None, as socket is"),
        (["--model_base_path=/m", "--port=70000"], "port: is 70000"),
        (["--model_base_path=/m", "--saved_model_tags=tpu"], "--saved_model_tags: is 'tpu'"),
        (["--model_base_path=/m", "--grpc_channel_arguments=a"], "'a' has no ="),
        (
            ["--model_base_path=/m", "--grpc_channel_arguments=grpc.max_receive_message_length=x"],
            "grpc.max_receive_message_length is 'x'",
        ),
        (["--model_base_path=/m", "--file_system_poll_wait_seconds=-1"], "pace.poll_s: is -1"),
        (["--model_base_path=/m", "--ssl_config_file=/nowhere"], "/nowhere: can't be read"),
    ],
)
def test_a_flag_that_can_not_be_followed_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*arguments)
    assert message in str(caught.value)


def test_a_start_that_fails_is_one_line_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert model_server.main(["--port=8500"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Failed to start server. Error: --model_base_path and ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("argument", ["--no_such_flag=1", "--port=x", "--enable_batching=maybe"])
def test_a_wrong_command_line_is_2(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        model_server.main([argument])
    assert caught.value.code == 2
    assert argument.partition("=")[0] in capsys.readouterr().err


def test_help_ends_in_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        model_server.main(["--help"])
    last = capsys.readouterr().out.strip().splitlines()[-1]
    arguments = last.removeprefix("Example: tensorseek-model-server ").split()
    assert read(*arguments).models == (Listed(name="sentiment", base=Path("/models/sentiment")),)


def test_every_flag_is_documented_and_every_documented_one_is_taken() -> None:
    text = (ROOT / "docs" / "backend.md").read_text()
    told = set(re.findall(r"--([a-z]+(?:_[a-z]+)*)\b(?!-)", text))
    taken = {action.dest for action in flags.parser("server", "")._actions} - {"help"}
    assert told - taken == {"flag", "models"}  # a form of theirs, and one of `serve backend`
    assert taken - told == set()
