"""Laws of the recipe: default < file < --set, and one clear error for anything that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import finetune
from finetune import recipe
from finetune.errors import RecipeError

SHIPPED = sorted((Path(finetune.__file__).parent / "recipes").glob("*.yaml"))
MINIMAL: dict[str, Any] = {
    "name": "tiny",
    "task": "text-classification",
    "base_model": "base",
    "data": {"train": "a.jsonl", "dev": "b.jsonl", "test": "c.jsonl", "labels": ["no", "yes"]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    return file


def refused(path: Path, expected: str, *overrides: str) -> None:
    with pytest.raises(RecipeError, match=expected) as caught:
        recipe.load(path, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_named_as_its_file(path: Path) -> None:
    assert recipe.load(path).name == path.stem


def test_there_are_shipped_recipes() -> None:
    assert SHIPPED


def test_default_then_file_then_set(path: Path) -> None:
    assert recipe.load(path).schedule.epochs == 1
    path.write_text(yaml.safe_dump({**MINIMAL, "schedule": {"epochs": 2, "warmup": 0.5}}))
    assert recipe.load(path).schedule.epochs == 2
    both = recipe.load(path, ["schedule.epochs=3", "schedule.epochs=4"])
    assert (both.schedule.epochs, both.schedule.warmup) == (4, 0.5)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("optimizer.learning_rate=1e-4", lambda r: r.optimizer.learning_rate == 1e-4),
        ("optimizer.clip_norm=null", lambda r: r.optimizer.clip_norm is None),
        ("data.buckets=[4, 8]", lambda r: r.data.buckets == (4, 8)),
        ("data.labels=[good, bad]", lambda r: r.data.labels == ("good", "bad")),
        ("precision=float32", lambda r: r.precision == "float32"),
        ("base_model=a=b", lambda r: r.base_model == "a=b"),
        ("edge.gates.max_drop=0.5", lambda r: r.edge.gates.max_drop == 0.5),
        ("edge.profiles=[]", lambda r: r.edge.profiles == ()),
        ("edge.profiles=[full_int8]", lambda r: r.edge.profiles == ("full_int8",)),
        ("edge.full_int8.max_drop=0.5", lambda r: r.edge.limits("full_int8").max_drop == 0.5),
    ],
)
def test_set_takes_yaml_at_any_depth(path: Path, override: str, found: Any) -> None:
    assert found(recipe.load(path, [override]))


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("optimiser.learning_rate=1", "'optimizer'"),
        ("optimizer.learning_rte=1", "'learning_rate'"),
        ("edge.gates.max_dorp=0.1", "'max_drop'"),
        ("data.bucket=[8]", "'buckets'"),
        ("sed=1", "'seed'"),
    ],
)
def test_an_unknown_key_is_told_the_nearest_valid_one(
    path: Path, override: str, nearest: str
) -> None:
    key = override.partition("=")[0].split(".")
    where = key[0] if key[0] == "optimiser" else ".".join(key)
    refused(path, rf"recipe\.yaml: unknown key '{where}'; did you mean {nearest}\?", override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("schedule.epochs=0", r"schedule\.epochs: .*greater than or equal to 1, got 0"),
        ("schedule.epochs=many", r"schedule\.epochs: .*valid integer.*, got 'many'"),
        ("schedule.warmup=1.5", r"schedule\.warmup: .*less than or equal to 1, got 1\.5"),
        ("optimizer.learning_rate=0", r"optimizer\.learning_rate: .*greater than 0, got 0"),
        ("optimizer.learning_rate=NaN", r"optimizer\.learning_rate: .*finite number, got nan"),
        ("optimizer.weight_decay=Infinity", r"optimizer\.weight_decay: .*finite number, got inf"),
        ("head.dropout=1", r"head\.dropout: .*less than 1, got 1"),
        ("name=My Model", r"name: .*model name 'My Model' must be"),
        ("task=astrology", r"task: .*'text-classification'.*got 'astrology'"),
        ("precision=float8", r"precision: .*'float32'.*got 'float8'"),
        ("seed=-1", r"seed: .*greater than or equal to 0, got -1"),
        ("data.labels=[good]", r"data\.labels: text-classification needs at least 2, got 1"),
        ("data.labels=[no, a]", r"data\.labels\.0: .*string, got False; write it in quotes"),
        ("data.labels=['a', 'a']", r"data\.labels: .*repeats \['a'\]; name each once"),
        ("data.buckets=[]", r"data\.buckets: .*at least 1"),
        ("data.buckets=[16, 8]", r"data\.buckets: .*must rise from at least 1, not \[16, 8\]"),
        ("data.buckets=[0, 8]", r"data\.buckets: .*must rise from at least 1"),
        ("data.batch_size=0", r"data\.batch_size: .*got 0"),
        ("data.train=7", r"data\.train: .*path.*got 7"),
        ("data=3", r"data: .*got 3"),
        ("edge.profiles=[int3]", r"edge\.profiles\.0: .*got 'int3'"),
        ("lora.rank=0", r"lora\.rank: .*greater than or equal to 1, got 0"),
        ("lora.targets=[q_proj, q_proj]", r"lora\.targets: .*repeats \['q_proj'\]"),
        ("moe.bias_update_speed=2", r"moe\.bias_update_speed: .*less than or equal to 1, got 2"),
        ("data.packing=true", r"data\.packing: only a language model's texts are packed"),
        ("data.format=chat", r"data\.format: only a language model learns from conversations"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(path: Path, override: str, expected: str) -> None:
    refused(path, rf"recipe\.yaml: {expected}", override)


def test_what_can_not_be_trained_together_is_named(path: Path) -> None:
    scratch = ("base_model=null", "scratch={}")
    refused(path, r"lora: random weights are worth no adapter", *scratch, "lora={}")
    refused(path, r"head\.alone: random weights are no base", *scratch, "head.alone=true")
    refused(path, r"head\.alone: then lora has nothing to train", "lora={}", "head.alone=true")
    v3 = "scratch.decoder=deepseek_v3"
    refused(path, r"scratch\.decoder: is the architecture of a language model", *scratch, v3)
    spoken = ("task=text-generation", "data.labels=[]", "edge.profiles=[]")
    refused(path, r"head\.alone: a language model has no head", *spoken, "head.alone=true")


def test_every_problem_is_told_at_once(path: Path) -> None:
    path.write_text(yaml.safe_dump({**MINIMAL, "seed": -1, "task": "x", "typo": 1}))
    refused(path, "seed: .*; unknown key 'typo'|task: .*; seed: .*; unknown key 'typo'")


def test_a_missing_key_is_named(path: Path) -> None:
    data = {key: value for key, value in MINIMAL["data"].items() if key != "dev"}
    path.write_text(yaml.safe_dump({"name": "a", "task": MINIMAL["task"], "data": data}))
    refused(path, r"key 'data\.dev' is missing; add it")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "not YAML: "),
        (b"\xff\xfe\xff", "not YAML: "),
        (b"a: 2026-99-99", "not YAML: month must be in 1..12"),
        (b"", "must be a mapping of keys, not NoneType"),
        (b"- a\n- b", "must be a mapping of keys, not list"),
        (b"hello", "must be a mapping of keys, not str"),
        (b"1: a", "1: Keys should be strings"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(path: Path, content: bytes, expected: str) -> None:
    path.write_bytes(content)
    refused(path, rf"recipe\.yaml: .*{expected}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.yaml", r"none\.yaml: No such file or directory")
    refused(tmp_path, "Is a directory")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("schedule.epochs", "write it as key=value, such as schedule.epochs=2"),
        ("=2", "write it as key=value"),
        ("name.first=2", "name is a value, it has no keys"),
        ("name=[", "the value is not YAML"),
        ("name=2026-99-99", "the value is not YAML"),
    ],
)
def test_a_broken_set_is_named(path: Path, override: str, expected: str) -> None:
    refused(path, f"^--set {override!r}: ".replace("[", r"\[") + expected, override)


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_recipe_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused(path, r"recipe\.yaml: ")


def test_the_effective_recipe_reads_back_equal(path: Path, tmp_path: Path) -> None:
    original = recipe.load(path, ["optimizer.learning_rate=1e-4", "data.labels=[naïve, 'no']"])
    copy = tmp_path / "effective.yaml"
    copy.write_text(original.to_yaml(), encoding="utf-8")
    assert recipe.load(copy) == original
    assert "warmup: 0.1" in copy.read_text()  # defaults are written out


def test_identity_ignores_where_things_lie_and_when_to_refuse(path: Path) -> None:
    base = recipe.load(path).identity("b" * 64, "d" * 64)
    for override in (
        "base_model=elsewhere",
        "data.train=other.jsonl",
        "data.dev=other.jsonl",
        "data.test=other.jsonl",
        "edge.gates.max_drop=0.3",
        "edge.profiles=[float16]",
        "evaluation.min_accuracy=0.9",
    ):
        assert recipe.load(path, [override]).identity("b" * 64, "d" * 64) == base, override


def test_identity_changes_with_what_training_depends_on(path: Path) -> None:
    seen = {
        recipe.load(path).identity("b" * 64, "d" * 64),
        recipe.load(path).identity("B" * 64, "d" * 64),
        recipe.load(path).identity("b" * 64, "D" * 64),
    }
    overrides = (
        "optimizer.learning_rate=1e-4",
        "schedule.epochs=2",
        "seed=1",
        "precision=float32",
        "head.dropout=0.2",
        "data.buckets=[8]",
        "data.labels=['yes', 'no']",
        "data.batch_size=8",
    )
    for override in overrides:
        seen.add(recipe.load(path, [override]).identity("b" * 64, "d" * 64))
    assert len(seen) == 3 + len(overrides)


def test_a_recipe_never_changes_after_it_was_checked(path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        recipe.load(path).schedule.epochs = 9  # type: ignore[misc]


def test_each_profile_has_its_own_limits(path: Path) -> None:
    """What one is told changes no other; the rest of its limits stay as they are."""
    edge = recipe.load(path, ["edge.gates.max_drop=0.1", "edge.mixed_int8.max_drop=0.2"]).edge
    for profile in ("float32", "float16", "dynamic_int8"):
        assert edge.limits(profile) == edge.gates
    assert (edge.gates.max_drop, edge.gates.min_agreement) == (0.1, 0.98)
    mixed, full = edge.limits("mixed_int8"), edge.limits("full_int8")
    assert (mixed.max_drop, mixed.min_agreement) == (0.2, 0.95)
    assert (full.max_drop, full.min_agreement) == (0.015, 0.9)
