"""Laws of a sweep's file: it says which trials, always the same, or one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.errors import RecipeError
from finetune.sweep import space
from finetune.sweep.space import Range, Space

RANGES = {
    "optimizer.learning_rate": {"log_uniform": [1e-5, 1e-3]},
    "head.dropout": {"uniform": [0, 0.3]},
    "data.batch_size": {"choice": [16, 32]},
}


def load(tmp_path: Path, content: object) -> Space:
    path = tmp_path / "sweep.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return space.load(path)


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    found = load(tmp_path, "grid: {optimizer.learning_rate: [1e-4, 5e-5], seed: [0, 1, 2]}")
    trials = list(found.trials())
    assert len(trials) == 6
    assert trials[0] == {"optimizer.learning_rate": "1e-4", "seed": 0}  # YAML 1.1: a string
    assert trials[-1] == {"optimizer.learning_rate": "5e-5", "seed": 2}


def test_random_trials_are_the_same_each_time_and_more_change_no_first_ones(
    tmp_path: Path,
) -> None:
    few, many, other = (
        list(load(tmp_path, {"random": {"trials": n, "seed": seed, "ranges": RANGES}}).trials())
        for n, seed in ((5, 1), (50, 1), (5, 2))
    )
    assert many[:5] == few
    assert other != few
    assert all(1e-5 <= trial["optimizer.learning_rate"] <= 1e-3 for trial in many)
    assert all(0 <= trial["head.dropout"] <= 0.3 for trial in many)
    assert {trial["data.batch_size"] for trial in many} == {16, 32}


def test_log_uniform_is_even_between_the_logarithms(tmp_path: Path) -> None:
    ranges = {"optimizer.learning_rate": {"log_uniform": [1e-5, 1e-3]}}
    found = load(tmp_path, {"random": {"trials": 1000, "ranges": ranges}})
    low = sum(trial["optimizer.learning_rate"] < 1e-4 for trial in found.trials())
    assert 450 < low < 550


def test_small_figures_win_where_they_are_errors(tmp_path: Path) -> None:
    grid = {"seed": [0]}
    assert not load(tmp_path, {"grid": grid}).lower_is_better
    assert load(tmp_path, {"grid": grid, "metric": "perplexity"}).lower_is_better


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"grids": {}}, r"unknown key 'grids'; did you mean 'grid'\?"),
        ({}, "give either grid or random"),
        ({"grid": {"a": [1]}, "random": {"trials": 1, "ranges": RANGES}}, "give either grid or"),
        ({"grid": {}}, r"grid: .*at least 1"),
        ({"grid": {"seed": []}}, r"grid\.seed: .*at least 1"),
        ({"grid": {"seed": 3}}, r"grid\.seed: .*tuple, got 3"),
        ({"grid": {"seed": [1]}, "metric": "f1"}, r"metric: .*'macro_f1'.*got 'f1'"),
        ({"random": {"ranges": RANGES}}, r"key 'random\.trials' is missing; add it"),
        ({"random": {"trials": 0, "ranges": RANGES}}, r"random\.trials: .*, got 0"),
        ({"random": {"trails": 1, "ranges": RANGES}}, r"'random\.trails'; did you mean 'trials'\?"),
        (
            {"random": {"trials": 1, "ranges": {"seed": {"chioce": [1]}}}},
            r"unknown key 'random\.ranges\.seed\.chioce'; did you mean 'choice'\?",
        ),
        ("a: [", "not YAML"),
        ("- a", "must be a mapping of keys, not list"),
        ("", "must be a mapping of keys, not NoneType"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, content: object, expected: str) -> None:
    with pytest.raises(RecipeError, match=rf"sweep\.yaml: .*{expected}") as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "give one of uniform, log_uniform and choice, not 0"),
        ({"uniform": [0, 1], "choice": [1]}, "not 2"),
        ({"uniform": [1, 0]}, r"the first bound must be under the second, not \[1\.0, 0\.0\]"),
        ({"log_uniform": [0, 1]}, r"log_uniform needs bounds over 0, not \[0\.0, 1\.0\]"),
        ({"uniform": [0]}, "Field required"),
        ({"choice": []}, "at least 1"),
    ],
)
def test_a_range_that_is_none_is_refused(content: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Range.model_validate(content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: No such file or directory. Name a sweep"):
        space.load(tmp_path / "none.yaml")


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"sweep\.yaml: ") as caught:
        space.load(path)
    assert "\n" not in str(caught.value)
