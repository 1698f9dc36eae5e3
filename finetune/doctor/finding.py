"""What an examination finds: facts, and problems with their fixes."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is so."""

    section: str
    name: str
    value: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and what to do about it."""

    what: str
    fix: str
    stops_training: bool


Finding = Fact | Problem


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found."""

    facts: tuple[Fact, ...]
    problems: tuple[Problem, ...]

    @property
    def can_train(self) -> bool:
        """Whether no problem stops a training."""
        return not any(problem.stops_training for problem in self.problems)
