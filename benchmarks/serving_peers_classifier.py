"""What every peer of `serving_peers` serves: the quickstart's classifier in transformers' PyTorch.

Runs in the peers' environments, so it imports nothing of ours. The tokenizer's file says that a
batch is padded to its longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel


class Classifier:
    """Texts → probabilities, each batch padded to its longest.

    Args:
        folder: what `serving_peers_model` wrote.
        threads: of PyTorch.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        weights = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._base = BertModel(BertConfig.from_pretrained(folder)).eval()
        labels, inner = weights["head.2.weight"].shape
        self._head = torch.nn.Sequential(
            torch.nn.Linear(self._base.config.hidden_size, inner),
            torch.nn.ReLU(),
            torch.nn.Linear(inner, labels),
        )
        names = [name for name in weights if name.startswith("head.")]
        self._head.load_state_dict({name[5:]: weights.pop(name) for name in names})
        missing, unknown = self._base.load_state_dict(weights, strict=False)
        assert not unknown
        assert all("position_ids" in name or "token_type_ids" in name for name in missing)

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """The probability of each label of each text."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([each.ids for each in encoded])
        mask = torch.tensor([each.attention_mask for each in encoded])
        with torch.inference_mode():
            logits = self._head(self._base(ids, mask).pooler_output)
            found: list[list[float]] = torch.softmax(logits, -1).tolist()
        return found
