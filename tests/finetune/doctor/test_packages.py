"""Laws of the look at packages: what the project asks for decides, and each fault has its fix."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from finetune.doctor import packages
from finetune.doctor.finding import Fact, Problem

TRANSFORMERS = Requirement("transformers<4.55,>=4.53; extra == 'finetune'")


def test_this_environment_is_as_the_project_asks() -> None:
    found = list(packages.examine())
    facts = {each.name: each.value for each in found if isinstance(each, Fact)}
    assert [each for each in found if isinstance(each, Problem)] == []
    assert facts["tensorflow"].startswith("2.21")
    assert facts["ray"] == "not installed" or facts["ray"][0].isdigit()


@pytest.mark.parametrize("version", ["4.53.0", "4.54.1"])
def test_a_version_that_works_is_a_fact(version: str) -> None:
    (fact,) = packages.judge(TRANSFORMERS, version)
    assert (fact.name, fact.value) == ("transformers", version)


@pytest.mark.parametrize(("version", "shown"), [("4.55.0", "4.55.0"), (None, "not installed")])
def test_another_or_none_stops_training(version: str | None, shown: str) -> None:
    fact, problem = packages.judge(TRANSFORMERS, version)
    assert fact.value == shown
    assert problem == Problem(
        what=f"transformers is {shown}; what works is <4.55,>=4.53",
        fix="pip install 'transformers<4.55,>=4.53'",
        stops_training=True,
    )


def test_another_python_stops_training() -> None:
    _, problem = packages.judge_python("3.10.4", ">=3.11,<3.14")
    assert problem.what == "Python is 3.10.4; what works is >=3.11,<3.14"
    assert len(list(packages.judge_python("3.13.1", ">=3.11,<3.14"))) == 1


def test_keras_3_and_a_foreign_keras_2_stop_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    assert len(list(packages.judge_keras("2.21.1", "2.21.0"))) == 1
    _, foreign = packages.judge_keras("2.18.0", "2.21.0")
    assert foreign.fix == "pip install 'tf-keras==2.21.*'"
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    _, switched = packages.judge_keras("2.21.0", "2.21.0")
    assert switched.what == "TF_USE_LEGACY_KERAS is '0', so TensorFlow uses Keras 3"
    assert switched.stops_training
