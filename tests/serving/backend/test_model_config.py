"""Law: TensorFlow Serving's own files mean here what they mean there; a wrong one is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.backend import model_config
from serving.backend.batcher import Batching
from serving.backend.model_config import Listed, Tls
from serving.errors import ConfigError

PEM = "-----BEGIN CERTIFICATE-----\\n"


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "file.txt"
        path.write_text(text)
        return path

    return write


def test_a_list_says_which_versions_of_which_models(file: Callable[[str], Path]) -> None:
    path = file("""
      model_config_list: {
        config: { name: "one", base_path: "/models/one", model_platform: "tensorflow" },
        config { name: "all" base_path: "/a" model_platform: "tensorflow"
                 model_version_policy { all { } } }
        config { name: "two" base_path: "/t" model_platform: "tensorflow"
                 model_version_policy: { latest { num_versions: 2 } } }
        config { name: "some" base_path: "/s" model_type: TENSORFLOW
                 model_version_policy { specific { versions: 3 versions: 1 } }
                 version_labels { key: "stable" value: 1 }
                 version_labels { key: 'canary', value: 3 } }
      }""")
    assert model_config.read_models(path) == (
        Listed(name="one", base=Path("/models/one")),
        Listed(name="all", base=Path("/a"), latest=None),
        Listed(name="two", base=Path("/t"), latest=2),
        Listed(
            name="some",
            base=Path("/s"),
            latest=None,
            versions=(3, 1),
            labels={"stable": 1, "canary": 3},
        ),
    )


ONE = 'name: "m" base_path: "/m" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {", "is no ModelServerConfig in text format"),
        ("models {}", 'has no field named "models"'),
        ("", "model_config_list: is missing; list the models there"),
        ('model_config_list { config { base_path: "/m" } }', "name: is empty"),
        ('model_config_list { config { name: "m" } }', "m: base_path: is empty"),
        (
            'model_config_list { config { name: "m" base_path: "s3://b/m" } }',
            "base_path: is 's3://b/m', which is not on this machine",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" } }',
            "m: model_platform: is ''; use 'tensorflow'",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" model_platform: "onnx" } }',
            "m: model_platform: is 'onnx'; use 'tensorflow'",
        ),
        (
            f"model_config_list {{ config {{ {ONE} }} config {{ {ONE} }} }}",
            "Illegal to list model m multiple times in config list",
        ),
        (
            f"model_config_list {{ config {{ {ONE} model_version_policy {{ specific {{ }} }} }} }}",
            "specific.versions: is empty",
        ),
        (
            f'model_config_list {{ config {{ {ONE} version_labels {{ key: "a" value: -1 }} }} }}',
            "has a version below 0",
        ),
        ('custom_model_config { type_url: "x" }', "custom_model_config: is not supported"),
    ],
)
def test_what_is_wrong_in_a_list_is_named(
    file: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=r"file\.txt: ") as caught:
        model_config.read_models(file(text))
    assert message in str(caught.value)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: can't be read: No such file"):
        model_config.read_models(tmp_path / "nowhere")
    (tmp_path / "large").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="large: is larger than 1048576 bytes"):
        model_config.read_models(tmp_path / "large")


def test_batching_parameters_have_tensorflow_servings_defaults(
    file: Callable[[str], Path],
) -> None:
    cores = os.cpu_count() or 1
    defaults = Batching(max_rows=1000, timeout_s=0.0, slots=cores, max_waiting=10)
    assert model_config.read_batching(None) == defaults
    assert model_config.read_batching(file("")) == defaults
    path = file("""
      max_batch_size { value: 32 }
      batch_timeout_micros { value: 5000 }
      max_enqueued_batches { value: 100 }
      num_batch_threads { value: 2 }
      thread_pool_name { value: "threads" }
      allowed_batch_sizes: 8 allowed_batch_sizes: 32
      pad_variable_length_inputs: true""")
    assert model_config.read_batching(path) == Batching(
        max_rows=32, timeout_s=0.005, slots=2, max_waiting=100, sizes=(8, 32), pad=True
    )
    split = "max_batch_size { value: 64 } enable_large_batch_splitting { value: true }"
    path = file(f"{split} max_execution_batch_size {{ value: 16 }}")
    assert model_config.read_batching(path).max_rows == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size: is 0; use 1 or more"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros: is -1; use 0 or more"),
        ("max_batch_size: 8", "is no BatchingParameters in text format"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            r"allowed_batch_sizes: is [4]; the sizes must rise, and the last one must be 8",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 4",
            "allowed_batch_sizes: is [8, 4]",
        ),
    ],
)
def test_a_wrong_parameter_is_named(file: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        model_config.read_batching(file(text))
    assert message in str(caught.value)


def test_monitoring_says_where_prometheus_asks_or_not(file: Callable[[str], Path]) -> None:
    read = model_config.read_monitoring
    assert read(file('prometheus_config { enable: true, path: "/metrics" }')) == "/metrics"
    assert read(file("prometheus_config { enable: true }")) == "/monitoring/prometheus/metrics"
    assert read(file("")) is None
    with pytest.raises(ConfigError, match="path: is 'metrics'; begin it with /"):
        read(file('prometheus_config { enable: true path: "metrics" }'))


def test_tls_has_key_and_certificate_and_knows_who_may_call(file: Callable[[str], Path]) -> None:
    path = file(f'server_key: "{PEM}" server_cert: "{PEM}"')
    plain = PEM.replace("\\n", "\n")
    assert model_config.read_tls(path) == Tls(key=plain, certificate=plain)
    with pytest.raises(ConfigError, match="server_cert: is no PEM text"):
        model_config.read_tls(file(f'server_key: "{PEM}"'))
    with pytest.raises(ConfigError, match="custom_ca: is empty; client_verify needs"):
        model_config.read_tls(file(f'server_key: "{PEM}" server_cert: "{PEM}" client_verify: true'))


WORDS = (
    "model_config_list config name base_path model_platform latest all specific versions value "
    'max_batch_size allowed_batch_sizes prometheus_config enable path server_key { } : " 1 -1 "m" '
    "\"/m\" 'tensorflow' true # , ; < > [ ]"
).split()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from(WORDS)).map(lambda words: " ".join(words).encode())
)
def test_any_file_is_understood_or_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.txt"
    path.write_bytes(data)
    for read in (
        model_config.read_models,
        model_config.read_batching,
        model_config.read_monitoring,
        model_config.read_tls,
    ):
        assert fault(read, path) in {None, True}


def fault(read: Callable[[Path], Any], path: Path) -> bool | None:
    """Whether a refusal names the file; None when there is none."""
    try:
        read(path)
    except ConfigError as error:
        return str(path) in str(error)
    return None
