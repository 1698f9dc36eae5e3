"""Training runs: the curves of one that is going on, or of one that has ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import tostring

import gradio as gr

from finetune.report import curve
from finetune.report.element import element
from tensorseek.demo.context import Context, Holdings, Watched, choice

_CURVE = Path("logs", "curve.jsonl")  # as finetune.watch writes it
_ENDED = Path("trained", "trained.json")
_MOST_BYTES = 16 << 20
_MOST_RUNS = 50


@dataclass(frozen=True)
class Curves:
    """What a training has told so far."""

    losses: list[float]
    rates: list[float]
    scores: list[float]
    steps: int


def build(context: Context) -> Watched:
    """The tab, and what of it follows the runs."""
    with gr.Tab("Training", id="training"):
        run = gr.Dropdown(label="Run", interactive=True, elem_id="training-run")
        picture = gr.HTML(elem_id="curves")

    def show(name: str | None) -> str:
        if not name:
            return f"<p>There are no runs in {context.runs}; begin with: tensorseek train</p>"
        folder = context.runs / name
        return _draw(name, read(folder / _CURVE), ended=(folder / _ENDED).is_file())

    run.change(show, run, picture, api_name="training")

    def update(_: Holdings, chosen: str | None, shown: str | None) -> list[Any]:
        names = runs(context.runs)
        name = chosen if chosen in names else next(iter(names), None)
        fresh = show(name)
        return [choice(names, chosen), gr.skip() if fresh == shown else fresh]

    return Watched([run, picture], update)


def runs(folder: Path) -> list[str]:
    """The runs that have told anything, `<model>/<job>`, the latest first."""
    found = sorted(
        folder.glob(f"*/*/{_CURVE}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    return [str(path.parents[1].relative_to(folder)) for path in found[:_MOST_RUNS]]


def read(path: Path) -> Curves:
    """The curves in a file; a line that is still being written is left out.

    A training that was taken up may tell of a step twice: what it said last counts.
    """
    steps: dict[int, tuple[float, float]] = {}
    scores: dict[int, float] = {}
    with path.open("rb") as file:
        lines = file.read(_MOST_BYTES).splitlines(keepends=True)
    for line in lines:
        if not line.endswith(b"\n"):
            continue
        row = json.loads(line)
        if "loss" in row:
            steps[row["step"]] = (row["loss"], row["learning_rate"])
        else:
            scores[row["step"]] = row["dev_score"]
    ordered = [steps[step] for step in sorted(steps)]
    return Curves(
        losses=[loss for loss, _ in ordered],
        rates=[rate for _, rate in ordered],
        scores=[scores[step] for step in sorted(scores)],
        steps=max((*steps, *scores), default=0),
    )


def _draw(name: str, found: Curves, *, ended: bool) -> str:
    state = "ended" if ended else "not ended"
    parts = [element("p", f"{name}: {found.steps:,} steps, {state}")]
    pictures: list[tuple[str, Sequence[float], str]] = [
        ("training loss", found.losses, "point"),
        ("learning rate", found.rates, "point"),
        ("dev score", found.scores, "epoch"),
    ]
    drawn = [
        curve.draw(title, values, unit, smooth=title == "training loss")
        for title, values, unit in pictures
        if values
    ]
    parts.append(element("div", *drawn, class_="curves"))
    return tostring(element("div", *parts), encoding="unicode", method="html")
