"""Laws of the file: taken as a whole or not at all, and a running gateway takes it up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving.errors import ConfigError
from serving.gateway import access, config_file
from serving.gateway.config_file import Source
from serving.gateway.versions import Choice


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    (tmp_path / "models").mkdir(exist_ok=True)

    def write_file(**settings: Any) -> Path:
        path = tmp_path / "gateway.yaml"
        whole = {"models": "models", "backend": "127.0.0.1:8500", **settings}
        path.write_text(yaml.safe_dump(whole))
        return path

    return write_file


def test_paths_count_from_the_files_folder_and_options_stand_above_it(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(port=1, request_log={"path": "log/requests.jsonl"})
    config = Source(path, {"port": 2, "http_port": 3}).load()
    assert config.models == tmp_path / "models"
    assert config.request_log is not None
    assert config.request_log.path == tmp_path / "log" / "requests.jsonl"
    assert (config.port, config.http_port) == (2, 3)


def test_backends_are_those_of_the_model_or_of_all(write: Callable[..., Path]) -> None:
    path = write(backend=["a:1", "b:2"], backends={"tiny": "c:3"})
    config = Source(path).load()
    assert config.addresses("tiny") == ("c:3",)
    assert config.addresses("other") == config.addresses() == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bakend": "x"}, "unknown field `bakend`; did you mean 'backend'"),
        ({"versions": {"tiny": {"splt": {1: 2}}}}, "unknown field `splt`.*did you mean 'split'"),
        ({"versions": {"tiny": {"split": {"seven": 5}}}}, "Expected `int`, got `str`"),
        ({"versions": {"tiny": {"version": 0}}}, "Expected `int` >= 1"),
        ({"port": "abc"}, "Expected `int`, got `str`"),
        ({"backend": []}, "backend: .* names none"),
        ({"backends": {"tiny": "x"}}, "backends.tiny: 'x' is no host:port"),
        ({"models": "none"}, "is no folder; give the model repository"),
        ({"keys": "none.yaml"}, "is no file; write one with `tensorseek serve key`"),
        ({"tls": {"certificate": "a", "key": "b"}}, "tls.certificate: .* is no file"),
        ({"request_log": {"path": "x", "sample": 2}}, "request_log.sample: 2.* is no share"),
        ({"request_log": {"path": 5}}, "Expected a path, got int"),
        ({"max_delay_ms": -1}, "max_delay_ms: -1.* is no duration"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(
    write: Callable[..., Path], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"gateway.yaml: .*{message}"):
        Source(write(**settings)).load()


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "a: \xff".encode("latin-1"), "&a [*a]"])
def test_what_is_no_yaml_or_no_settings_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"gateway\.yaml: "):
        Source(path).load()


def test_files_that_it_names_are_checked_too(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: 5")
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        config_file.check(Source(write(keys="keys.yaml")).load())
    (tmp_path / "pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="tls: can't be used"):
        config_file.check(Source(write(tls={"certificate": "pem", "key": "pem"})).load())


def test_a_split_is_written_beside_everything_else(write: Callable[..., Path]) -> None:
    path = write(port=7, versions={"other": {"version": 3}})
    config_file.choose(path, "tiny", Choice(split={7: 95, 8: 5}))
    config = Source(path).load()
    assert config.versions == {"other": Choice(version=3), "tiny": Choice(split={7: 95, 8: 5})}
    assert config.port == 7
    before = path.read_text()
    path.write_text(before + "nonsense: 1\n")
    with pytest.raises(ConfigError):
        config_file.choose(path, "tiny", Choice())
    assert "nonsense" in path.read_text()


@pytest.fixture
def served(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    serving: Any,
    models: Path,
    publish_plain: Callable[..., int],
    tmp_path: Path,
) -> Any:
    """A gateway from a file, over two versions: its stub, and what rewrites the file."""
    import contextlib

    publish_plain(models)
    serving.served["tiny"] = {1, 2}
    path = tmp_path / "gateway.yaml"

    def rewrite(**settings: Any) -> None:
        whole = {"models": str(models), "backend": serving.address, "port": 0, "http_port": 0}
        fresh = path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump({**whole, "poll_s": 0.05, **settings}))
        fresh.replace(path)

    @contextlib.contextmanager
    def start(**settings: Any) -> Any:
        rewrite(**settings)
        source = Source(path)
        with (
            running(source.load(), source=source) as gateway,
            grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
        ):
            yield InferenceStub(channel), rewrite, gateway

    return start


def ask(stub: Any, *metadata: tuple[str, str], **fields: Any) -> int:
    request = inference_pb2.PredictRequest(model="tiny", inputs=[{"text": "good"}], **fields)
    return int(stub.Predict(request, metadata=metadata, timeout=20).model_version)


def test_a_running_gateway_takes_up_versions_and_labels(
    served: Any, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    with served() as (stub, rewrite, _):
        assert ask(stub) == 2
        rewrite(versions={"tiny": {"label": "stable", "labels": {"stable": 1, "next": 2}}})
        eventually(lambda: ask(stub) == 1)
        assert ask(stub, version_label="next") == 2
        rewrite(versions={"tiny": {"split": {1: 50, 2: 50}}})
        eventually(lambda: {ask(stub) for _ in range(20)} == {1, 2})
        for key in ("anna", "bert", "carl"):
            assert len({ask(stub, ("x-request-key", key)) for _ in range(5)}) == 1


def test_a_file_that_is_wrong_changes_nothing_and_is_told(
    served: Any, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    import urllib.request

    with served(versions={"tiny": {"version": 1}}) as (stub, rewrite, gateway):
        url = f"http://127.0.0.1:{gateway.http_port}/metrics"

        def refused() -> float:
            lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
            (line,) = [line for line in lines if line.startswith("tensorseek_config_refused")]
            return float(line.split()[1])

        assert refused() == 0
        for wrong in ({"versions": {"tiny": {"version": 2}}, "port": 77}, {"nonsense": 1}):
            rewrite(**wrong)
            eventually(lambda: refused() == 1)
            assert ask(stub) == 1
            rewrite(versions={"tiny": {"version": 1}})
            eventually(lambda: refused() == 0)


def test_keys_come_and_go(
    served: Any, tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    path = tmp_path / "keys.yaml"
    key = access.add(path, "app")
    with served() as (stub, rewrite, _):
        assert ask(stub) == 2
        rewrite(keys=str(path))

        def closed() -> bool:
            try:
                ask(stub)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED  # noqa: PT017
                return True
            return False

        eventually(closed)
        assert ask(stub, ("authorization", f"Bearer {key}")) == 2
        second = access.add(path, "second")

        def lets_in() -> bool:
            try:
                return ask(stub, ("x-api-key", second)) == 2
            except grpc.RpcError:
                return False

        eventually(lets_in)
