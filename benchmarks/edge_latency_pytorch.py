"""A contender of `edge_latency`: transformers' BERT in PyTorch, in an environment of its own.

Run as a script with the folder of the weights and the number of threads. Reads lines
`{"ids": [...], "calls": n}` and answers each with `{"label": ..., "ms": [...]}`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel


def main(folder: Path, threads: int) -> None:
    """Answers until standard input ends."""
    torch.set_num_threads(threads)
    weights = load_file(folder / "model.safetensors")
    base = BertModel(BertConfig.from_pretrained(folder)).eval()
    labels, inner = weights["head.2.weight"].shape
    head = torch.nn.Sequential(
        torch.nn.Linear(base.config.hidden_size, inner),
        torch.nn.ReLU(),
        torch.nn.Linear(inner, labels),
    )
    head.load_state_dict(
        {name[5:]: weights.pop(name) for name in list(weights) if name.startswith("head.")}
    )
    missing, unknown = base.load_state_dict(weights, strict=False)
    assert not unknown
    assert all("position_ids" in name or "token_type_ids" in name for name in missing)
    with torch.inference_mode():
        for line in sys.stdin:
            asked = json.loads(line)
            ids = torch.tensor([asked["ids"]])
            mask = torch.ones_like(ids)
            taken_ms = []
            for _ in range(asked["calls"] + 1):  # the first one warms up
                start = time.perf_counter()
                logits = head(base(ids, mask).pooler_output)
                taken_ms.append(1e3 * (time.perf_counter() - start))
            print(json.dumps({"label": int(logits.argmax()), "ms": taken_ms[1:]}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
