"""Law: TensorFlow Serving's own messages read the files, and they say what the repository does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from google.protobuf import text_format

from bundle.repository import ModelRepository
from serving import tfs_config
from serving.errors import ConfigError
from serving.tfs_config import Batching

BASE = PurePosixPath("/models")


@pytest.fixture
def repository(publish_plain: Callable[..., int], tmp_path: Path) -> ModelRepository:
    for name in ("tiny", "tiny", "other"):
        publish_plain(tmp_path / "models", name)
    return ModelRepository(tmp_path / "models")


def test_every_model_is_served_in_its_newest_versions_or_the_pinned_one(
    repository: ModelRepository, tmp_path: Path
) -> None:
    from tensorflow_serving.config import model_server_config_pb2

    repository.pin("tiny", 1)
    tfs_config.write(repository, BASE, tmp_path / "out", Batching())
    text = (tmp_path / "out" / "models.config").read_text()
    found = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    configs: dict[str, Any] = {each.name: each for each in found.model_config_list.config}
    assert set(configs) == {"tiny", "other"}
    assert configs["tiny"].base_path == "/models/tiny"
    assert list(configs["tiny"].model_version_policy.specific.versions) == [1]
    assert configs["other"].model_version_policy.latest.num_versions == 2


def test_a_version_on_trial_is_served_to_who_names_it_and_a_withdrawn_one_to_nobody(
    publish_plain: Callable[..., int], tmp_path: Path
) -> None:
    repository = ModelRepository(tmp_path / "models")
    for _ in range(4):
        publish_plain(tmp_path / "models")
    (tmp_path / "models" / "tiny" / "held.json").write_text('{"trial": 4}')
    for versions in ("versions: 2 versions: 3 versions: 4", "versions: 2 versions: 3"):
        tfs_config.write(repository, BASE, tmp_path / "out", Batching())
        text = (tmp_path / "out" / "models.config").read_text()
        assert f"specific {{ {versions} }}" in text
        repository.withdraw("tiny")


def test_monitoring_is_where_prometheus_is_told_to_ask(
    repository: ModelRepository, tmp_path: Path
) -> None:
    tfs_config.write(repository, BASE, tmp_path, Batching())
    text = (tmp_path / "monitoring.config").read_text()
    assert text == 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'


def test_batching_says_what_was_asked(repository: ModelRepository, tmp_path: Path) -> None:
    tfs_config.write(repository, BASE, tmp_path, Batching(max_rows=8, threads=3))
    text = (tmp_path / "batching_parameters.txt").read_text()
    assert "max_batch_size { value: 8 }" in text
    assert "num_batch_threads { value: 3 }" in text
    with pytest.raises(ConfigError, match=r"threads: is 0; use 1 or more"):
        Batching(threads=0)


def test_files_that_would_not_change_are_left_alone(
    repository: ModelRepository, publish_plain: Callable[..., int], tmp_path: Path
) -> None:
    assert len(tfs_config.write(repository, BASE, tmp_path, Batching())) == 3
    assert tfs_config.write(repository, BASE, tmp_path, Batching()) == []
    publish_plain(repository.root, "third")
    assert tfs_config.write(repository, BASE, tmp_path, Batching()) == ["models.config"]
