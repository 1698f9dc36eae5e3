"""What a run works on, settled once and kept: a killed run goes on with the same data.

data/, logs/ ──► files no run has seen ─► sorted ─► <run>/new, <run>/train, <run>/plan.json
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bundle import atomic, integrity, preprocess
from bundle.repository import SavedBundle
from finetune.data import source
from finetune.errors import DataError, RefreshError
from finetune.recipe import Recipe
from finetune.refresh import checks, items, request_log
from finetune.refresh.checks import Arrived, Findings, Known
from finetune.refresh.folder import PLAN, NewFile, Plan, RefreshFolder, Run
from finetune.refresh.items import Item
from finetune.refresh.settings import Refresh

LEARN, TEST, TRAIN = "learn", "test", "train"

Check = Callable[[str], None]


def settle(recipe: Recipe, folder: RefreshFolder, champion: SavedBundle | None) -> Run | Findings:
    """Reads the new data and writes a run's plan and data sets, all or nothing.

    Returns:
        The run; or, of data that are too few to begin one, what they hold.

    Raises:
        DataError: the recipe's own data can't be used.
        RefreshError: a folder of new data can't be read.
    """
    settings = settings_of(recipe)
    files = _new_files(settings, folder.known())
    earlier = [run for run, report in folder.reports() if report.learns]
    training = items.read(recipe.data.train, recipe)
    learnt = [item for run in earlier for item in _read(run, LEARN, recipe)]
    compared = [item for run in earlier for item in _read(run, TEST, recipe)]
    held_out = [
        each for part in ("dev", "test") for each in items.read(_split(recipe, part), recipe)
    ]
    check = None if champion is None else _check(champion)
    found = checks.sort(
        _arrived(files, recipe, check),
        Known(held_out=held_out, training=training, earlier=[*learnt, *compared]),
        items.names(recipe),
        settings,
    )
    faulty = bool(found.findings.faults)
    if found.count < settings.checks.min_examples and not faulty:
        return found.findings
    plan = Plan(
        run=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
        begun=now(),
        recipe_sha256=recipe_sha256(recipe),
        champion=None if champion is None else champion.manifest.version,
        files=tuple(files),
        findings=found.findings,
    )
    parts = [("new", LEARN, found.learn), ("new", TEST, found.test)]
    parts += [("train", TRAIN, [*training, *learnt, *found.learn])]
    return _write(folder, plan, [] if faulty else parts, recipe)


def settings_of(recipe: Recipe) -> Refresh:
    """The recipe's `refresh`.

    Raises:
        RefreshError: it has none.
    """
    if recipe.refresh is None:
        raise RefreshError(
            f"{recipe.name}: the recipe has no `refresh`; add one, such as refresh: {{data: new}}"
        )
    return recipe.refresh


def recipe_sha256(recipe: Recipe) -> str:
    """Of the effective recipe."""
    return hashlib.sha256(recipe.to_yaml().encode()).hexdigest()


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(
    folder: RefreshFolder, plan: Plan, parts: list[tuple[str, str, list[Item]]], recipe: Recipe
) -> Run:
    with tempfile.TemporaryDirectory(dir=folder.path, prefix=".writing-") as temporary:
        content = Path(temporary, "content")
        for part, name, found in parts:
            (content / part).mkdir(parents=True, exist_ok=True)
            items.write(items.place(content / part, name, recipe), found, recipe)
        atomic.write_bytes(content / PLAN, msgspec.json.format(msgspec.json.encode(plan)))
        atomic.rename_directory(content, folder.path / plan.run)
    return Run(folder.path / plan.run)


def _new_files(settings: Refresh, known: set[str]) -> list[NewFile]:
    found: dict[str, NewFile] = {}
    for path in _entries(settings.data):
        digest = source.sha256(path)
        found.setdefault(digest, NewFile(path=str(path), sha256=digest, kind="data"))
    for path in _entries(settings.logs):
        digest = integrity.sha256_file(path)
        found.setdefault(digest, NewFile(path=str(path), sha256=digest, kind="log"))
    return [file for digest, file in found.items() if digest not in known]


def _entries(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise RefreshError(
            f"{folder}: {error.strerror}. Make the folder, or name another."
        ) from error


def _arrived(files: Iterable[NewFile], recipe: Recipe, check: Check | None) -> Arrived:
    data: list[Item] = []
    logged: list[Item] = []
    faults: list[str] = []
    unlabelled = 0
    for file in files:
        try:
            if file.kind == "data":
                data += items.read(Path(file.path), recipe, check)
            else:
                log = request_log.read(Path(file.path), recipe, check)
                logged += log.items
                unlabelled += log.unlabelled
        except DataError as error:
            faults.append(str(error))
    return Arrived(data=data, logged=logged, unlabelled=unlabelled, faults=faults)


def _read(run: Run, name: str, recipe: Recipe) -> list[Item]:
    path = items.place(run.new, name, recipe)
    return items.read(path, recipe) if path.exists() else []


def _split(recipe: Recipe, part: str) -> Path:
    found: Path = getattr(recipe.data, part)
    return found


def _check(champion: SavedBundle) -> Check | None:
    if champion.manifest.task == "text-generation":
        return None  # long texts are cut into pieces
    preprocessor = preprocess.create(champion.manifest.preprocess, champion.read)
    return getattr(preprocessor, "check", None)
