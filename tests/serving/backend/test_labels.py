"""Law: a label names a version that answers; a new one may name any, where that is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.backend.labels import Labels
from serving.backend.model_config import Listed
from serving.errors import ConfigError, InvalidArgument


def models(**labels: int) -> list[Listed]:
    return [Listed(name="m", base=Path("/m"), labels=labels)]


def labels(*available: int, allow: bool = False) -> Labels:
    return Labels(lambda _, version: version in available, allow_unavailable=allow)


def test_a_label_names_its_version_until_another_list_comes() -> None:
    found = labels(1, 2)
    for version in (1, 2):
        found.check(models(stable=version))
        found.replace(models(stable=version))
        assert found.version("m", "stable") == version
    for name, label in (("m", "canary"), ("n", "stable")):
        with pytest.raises(InvalidArgument, match=f"Unrecognized servable version label: {label}"):
            found.version(name, label)


def test_a_version_that_does_not_answer_gets_no_label() -> None:
    message = "assign label to version 3 of model m, which is not currently available"
    with pytest.raises(ConfigError, match=message):
        labels(1).check(models(stable=1, canary=3))


def test_where_it_is_allowed_a_new_label_may_but_one_that_moves_may_not() -> None:
    found = labels(1, allow=True)
    found.check(models(stable=1, canary=3))
    found.replace(models(stable=1, canary=3))
    found.check(models(stable=1, canary=3))
    with pytest.raises(ConfigError, match="assign label to version 4"):
        found.check(models(stable=4, canary=3))
