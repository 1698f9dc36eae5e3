"""What quantization costs a language model: a small DeepSeek-V3 with latent attention and experts.

command   TENSORSEEK_DATA=<folder> make bench-edge-language   (trains the model unless it is there)
machine   2 cores, no GPU, LiteRT 2.3; other work kept them busy too
date      2026-11-25
result    rise of the perplexity (34.5; upper end of its interval), agreement, share of the size

          dynamic_int8   0.0007  0.0015   0.978   0.269
          mixed_int8     0.0025  0.0047   0.916   0.272   float: ADD, SUM, MEAN, SUB, RSQRT, MUL
          full_int8      0.0065  0.0087   0.908   0.271   no float, what is remembered neither

          The recipe allows a rise of 0.02 and asks an agreement of 0.9. On dev full_int8 agrees on
          0.914: within the limits, not within the four fifths of them that the search asks for
          first. Before all experts became one product behind their shares, mixed_int8 agreed on
          0.891 and was refused; what an expert gave to tokens that had not chosen it was then in
          its ranges, and each expert's answer was rounded alone (which of both cost it was not
          measured apart).

Each profile is made as by `tensorseek export --edge`, all choices on the dev split, and judged
token by token on the whole test split by what a device runs.

    <profile>_rise        of the perplexity: 0.01 is 1%
    <profile>_rise_high   the upper end of its 95% interval
    <profile>_agreement   share of tokens after which both find the same one most likely
    <profile>_size        bytes, as a share of float32's
    <profile>_islands     ops that stay float
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks import edge_models
from bundle import archive, manifest
from bundle.manifest import Profile
from finetune.errors import FinetuneError
from finetune.export import candidate, edge_bundle
from tensorseek.progress import TerminalProgress

_PROFILES: tuple[Profile, ...] = ("float32", "dynamic_int8", "mixed_int8", "full_int8")


def main() -> None:
    """Measures, and prints one JSON line."""
    try:
        print(json.dumps({"benchmark": "edge_language", **_measure()}))
    except FinetuneError as error:
        sys.exit(f"benchmarks.edge_language: {error}")


def _measure() -> dict[str, Any]:
    progress = TerminalProgress()
    repository, saved = edge_models.deepseek_v3_tiny()
    trained = candidate.of_version(saved, progress)
    figures: dict[str, Any] = {}
    sizes: dict[Profile, float] = {}
    for profile in _PROFILES:
        path = edge_bundle.publish(repository, saved, trained, profile, progress)
        edge = manifest.decode(archive.unpack(path)[manifest.FILE_NAME], str(path)).edge
        if edge is None:
            raise TypeError(f"{path}: is no edge bundle")  # we have just made it
        told = edge.evaluation
        sizes[profile] = told["size_bytes"]
        for name in ("rise", "rise_high", "agreement"):
            figures[f"{profile}_{name}"] = round(told[name], 4)
        figures[f"{profile}_size"] = round(sizes[profile] / sizes["float32"], 4)
        figures[f"{profile}_islands"] = list(edge.islands)
    return figures


if __name__ == "__main__":
    main()
