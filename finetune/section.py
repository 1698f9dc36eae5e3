"""A part of a YAML file that a person writes: strict, and wrong in one clear line."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict

from finetune.errors import RecipeError

S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """Base of every part: immutable and strict."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read(path: Path, what: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        what: the file is, for the message.

    Raises:
        RecipeError: names the file and what is wrong.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}. Name a {what} that exists.") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number like 2026-99-99
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: must be a mapping of keys, not {type(content).__name__}")
    return content


def check(section: type[S], content: dict[str, Any], origin: str) -> S:
    """The section that a mapping describes.

    Raises:
        RecipeError: names the origin, each key that is wrong, its value and the fix.
    """
    try:
        return section.model_validate(content)
    except pydantic.ValidationError as error:
        problems = "; ".join(_describe(section, problem) for problem in error.errors())
        raise RecipeError(f"{origin}: {problems}") from error


def _describe(section: type[Section], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        valid = _fields_at(section, problem["loc"][:-1])
        nearest = difflib.get_close_matches(str(problem["loc"][-1]), valid, n=1, cutoff=0.0)
        return f"unknown key {where!r}; did you mean {nearest[0]!r}?"
    if problem["type"] == "missing":
        return f"key {where!r} is missing; add it"
    if problem["type"] == "value_error" and not where:  # of the whole: it names its keys
        return str(problem["ctx"]["error"])
    fix = "; write it in quotes" if problem["type"] == "string_type" else ""  # YAML: no is False
    return f"{where}: {problem['msg']}, got {problem['input']!r}{fix}"


def _fields_at(section: type[Section], loc: Sequence[str | int]) -> list[str]:
    found = section
    for part in loc:
        field = found.model_fields.get(str(part))
        if field is not None:  # else a key of a mapping, whose values are sections
            found = _section_in(field.annotation) or found
    return list(found.model_fields)


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that `Section`, `Section | None` or `dict[str, Section]` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = (_section_in(argument) for argument in get_args(annotation))
    return next((each for each in inner if each is not None), None)
