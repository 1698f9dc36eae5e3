"""Laws of reading the repository: each version once, and a broken one hides no other."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.repository import EXTRA, ModelRepository
from serving.gateway.published import Published


@pytest.fixture
def published(models: Path) -> Published:
    return Published(ModelRepository(models))


def test_a_version_is_read_once_and_shares_its_tokenizer(
    published: Published, models: Path, publish_plain: Callable[..., int]
) -> None:
    first = published.scan()["tiny"].versions[1]
    publish_plain(models)
    found = published.scan()["tiny"]
    assert found.versions[1] is first
    assert found.versions[2].preprocessor is first.preprocessor
    assert found.wanted == 2


def test_another_bundle_under_the_same_number_is_read_again(
    published: Published, models: Path, publish_plain: Callable[..., int]
) -> None:
    first = published.scan()["tiny"].versions[1]
    shutil.rmtree(models / "tiny" / "1")
    assert publish_plain(models, labels=("no", "yes")) == 1
    second = published.scan()["tiny"].versions[1]
    assert (first.manifest.labels, second.manifest.labels) == (
        ("negative", "positive"),
        ("no", "yes"),
    )


@pytest.mark.parametrize(
    ("file", "reason"),
    [("tokenizer.json", "corrupted; SHA-256 expected"), ("manifest.json", "Publish the bundle")],
)
def test_a_broken_version_leaves_the_others_and_is_reported_once(
    published: Published,
    models: Path,
    publish_plain: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    file: str,
    reason: str,
) -> None:
    published.scan()
    publish_plain(models)
    (models / "tiny" / "2" / EXTRA / file).write_bytes(b"{")
    for _ in range(3):
        assert list(published.scan()["tiny"].versions) == [1]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(record)["model"] == "tiny version 2"
    assert reason in vars(record)["reason"]


def test_a_bad_pin_keeps_what_was_wanted(
    published: Published, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = published.scan()["tiny"]
    (models / "tiny" / "pin.json").write_text("{}")
    assert published.scan()["tiny"] is before
    assert "pin.json" in vars(caplog.records[-1])["reason"]


def test_a_bundle_without_the_signature_is_not_read(
    published: Published,
    models: Path,
    publish_plain: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish_plain(models, name="other", signatures={})
    assert list(published.scan()) == ["tiny"]
    assert "has no signature 'serving_default'" in vars(caplog.records[-1])["reason"]


def test_a_model_that_is_removed_is_gone(published: Published, models: Path) -> None:
    assert list(published.scan()) == ["tiny"]
    shutil.rmtree(models / "tiny")
    assert list(published.scan()) == []
