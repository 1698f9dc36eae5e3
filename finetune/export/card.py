"""MODEL_CARD.md: what a person should know before using a model."""

from __future__ import annotations

from bundle.manifest import Manifest

FILE_NAME = "MODEL_CARD.md"


def render(manifest: Manifest) -> str:
    """The card as Markdown.

    Source:
        Mitchell et al.: Model Cards for Model Reporting, section 4 (arXiv 1810.03993).
    """
    provenance = manifest.provenance
    limits = manifest.preprocess
    lines = [
        f"# {manifest.name}",
        "",
        f"- Task: {manifest.task}",
        f"- Labels: {', '.join(manifest.labels)}",
        f"- Base model: `{provenance.base_model}` (SHA-256 `{provenance.base_model_sha256[:16]}…`)",
        f"- Data: SHA-256 `{provenance.data_sha256[:16]}…`",
        f"- Made: {provenance.created}",
        f"- Input: text of at most {limits.max_characters} characters",
        f"- Reads the first {limits.buckets[-1]} tokens",
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
        "The figures hold for texts like those of the test split; try your own first.",
        "",
    ]
    return "\n".join(lines)
