"""What is published: versions, figures, where each comes from, and its edge profiles compared."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

import gradio as gr

from bundle import archive, manifest
from bundle.errors import BundleError
from bundle.manifest import EdgeModel, Manifest
from bundle.repository import ModelRepository
from finetune.report.element import element
from tensorseek.demo.context import Context, Holdings, Watched, choice

_UNITS = (("%", "accuracy"), ("MB", "size"), ("ms", "time"))  # of the bars of an edge profile


def build(context: Context) -> Watched:
    """The tab, and what of it follows the models."""
    with gr.Tab("Models", id="models"):
        model = gr.Dropdown(label="Published model", interactive=True, elem_id="models-model")
        card = gr.HTML(elem_id="model-card")

    def show(name: str | None) -> str:
        if not name:
            return "<p>There is no model yet; make one with: tensorseek quickstart</p>"
        return tostring(_card(context.repository, name), encoding="unicode", method="html")

    model.change(show, model, card, api_name="model")

    def update(held: Holdings, chosen: str | None, shown: str | None) -> list[Any]:
        names = held.of()
        name = chosen if chosen in names else next(iter(names), None)
        fresh = show(name)
        return [choice(names, chosen), gr.skip() if fresh == shown else fresh]

    return Watched([model, card], update)


def _card(repository: ModelRepository, name: str) -> Element:
    serving, held = repository.serving(name), repository.held(name)
    how = dict.fromkeys(held.withdrawn, ", withdrawn")
    if held.trial is not None:
        how[held.trial] = ", on trial"
    how[serving] = ", served"
    versions = reversed(repository.versions(name))
    return element(
        "div",
        *(_version(repository, name, each, how.get(each, "")) for each in versions),
        class_="cards",
    )


def _version(repository: ModelRepository, name: str, version: int, how: str) -> Element:
    title = f"{name} version {version}{how}"
    try:
        found = repository.load(name, version, verify=False).manifest
    except BundleError as error:
        return element("section", element("h3", title), element("p", f"⚠️ {error}"))
    return element(
        "section",
        element("h3", title),
        _table(("figure", "value", "95% interval", "n"), _metrics(found)),
        element("p", _origin(found), class_="origin"),
        *_profiles(repository.edge_bundles(name, version)),
    )


def _metrics(found: Manifest) -> Iterator[tuple[str, ...]]:
    for name, metric in found.metrics.items():
        interval = "–" if metric.low is None else f"{metric.low:.4g} to {metric.high:.4g}"
        yield name.replace("_", " "), f"{metric.value:.4g}", interval, f"{metric.n:,}"


def _origin(found: Manifest) -> str:
    made = found.provenance
    parent = f", after version {made.parent_version}" if made.parent_version else ""
    return f"{found.task}, made {made.created} from {Path(made.base_model).name}{parent}"


def _profiles(paths: Iterable[Path]) -> list[Element]:
    """A row of bars for each edge bundle, each bar as long as its share of the longest."""
    found = []
    for path in paths:
        try:
            edge = _edge(path, path.stat().st_mtime_ns)
        except (BundleError, OSError, KeyError) as error:
            return [element("p", f"⚠️ {path.name}: {error}")]
        if edge is not None:
            found.append(edge)
    if not found:
        return []
    rows = []
    for edge in found:
        bars: list[Element | str] = [edge.profile]
        for place, (unit, _) in enumerate(_UNITS):
            value = _figures(edge)[place]
            longest = max(_figures(each)[place] for each in found) or 1.0
            bars.append(_bar(value, value / longest, unit))
        rows.append(bars)
    return [_table(("edge profile", *(head for _, head in _UNITS)), rows)]


@functools.lru_cache(maxsize=64)
def _edge(path: Path, _written_ns: int) -> EdgeModel | None:
    """What an edge bundle tells of itself: read once, since the page looks every few seconds."""
    return manifest.decode(archive.unpack(path)[manifest.FILE_NAME], str(path)).edge


def _bar(value: float, share: float, unit: str) -> Element | str:
    if not value:  # bundles of earlier releases don't tell
        return "–"
    width = f"width: {max(2, round(100 * share))}%"
    fill = element("span", style=width, class_="fill", aria_hidden="true")
    return element("div", element("span", fill, class_="bar"), f" {value:.3g} {unit}")


def _figures(edge: EdgeModel) -> tuple[float, float, float]:
    """Accuracy in percent, size in MB, and the median milliseconds of the longest input."""
    told = edge.evaluation
    times = [value for name, value in told.items() if name.startswith("p50_ms_")]
    accuracy, size = told.get("accuracy", 0.0), told.get("size_bytes", 0.0)
    return 100 * accuracy, size / 1e6, max(times, default=0.0)


def _table(heads: Iterable[str], rows: Iterable[Iterable[Element | str]]) -> Element:
    head = element("tr", *(element("th", each, scope="col") for each in heads))
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element(
        "div",
        element("table", element("thead", head), element("tbody", *body)),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="table",
    )
