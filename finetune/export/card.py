"""MODEL_CARD.md: what a person should know before using a model."""

from __future__ import annotations

from bundle.manifest import ImagePreprocess, Manifest, Preprocess

FILE_NAME = "MODEL_CARD.md"


def render(manifest: Manifest) -> str:
    """The card as Markdown.

    Source:
        Mitchell et al.: Model Cards for Model Reporting, section 4 (arXiv 1810.03993).
    """
    provenance = manifest.provenance
    lines = [
        f"# {manifest.name}",
        "",
        f"- Task: {manifest.task}",
        f"- Labels: {', '.join(manifest.labels) or 'none'}",
        f"- Base model: `{provenance.base_model}` (SHA-256 `{provenance.base_model_sha256[:16]}…`)",
        f"- Data: SHA-256 `{provenance.data_sha256[:16]}…`",
        f"- Made: {provenance.created}",
        f"- Input: {_input(manifest.preprocess)}",
        "",
        "## Measured",
        "",
        "| metric | value | 95% interval | examples |",
        "| --- | --- | --- | --- |",
    ]
    for name, metric in manifest.metrics.items():
        interval = "" if metric.low is None else f"{metric.low:.3f} to {metric.high:.3f}"
        lines.append(f"| {name} | {metric.value:.4g} | {interval} | {metric.n} |")
    lines += [
        "",
        "The figures hold for inputs like those of the test split; try your own first.",
        "",
    ]
    return "\n".join(lines)


def _input(spec: Preprocess) -> str:
    if isinstance(spec, ImagePreprocess):
        return f"a JPEG, PNG or WebP picture, seen at {spec.width} × {spec.height} pixels"
    return (
        f"text of at most {spec.max_characters} characters, "
        f"read to the {spec.keep} {spec.buckets[-1]} tokens"
    )
