"""The models by the names and methods that transformers' users know.

    TFAutoModelForCausalLM.from_pretrained(path)
    TFAutoModelForSequenceClassification.from_pretrained(path, num_labels=…, id2label=…, label2id=…)
        ─► model.config.id2label   model.classifier = CustomHead(…)   model.save_pretrained(folder)

`registration` calls `register`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from finetune import pretrained
from finetune.deepseek import checkpoint
from finetune.deepseek import config as configs
from finetune.deepseek.config import Reference
from finetune.deepseek.decoder import CausalLM, SequenceClassifier
from finetune.errors import ModelError

_CONFIGURATIONS = ("LlamaConfig", "Qwen2Config", "DeepseekV2Config", "DeepseekV3Config")
# What `TFAutoModelFor…` adds by itself, and means nothing here: no code is loaded, and adapters
# are for `adapter.load`.
_OF_AUTO_CLASSES = {"_from_auto", "adapter_kwargs", "trust_remote_code"}


class DeepseekForCausalLM(CausalLM):
    """See `CausalLM`."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, config: Any = None, reference: Reference = "deepseek", **unknown: Any
    ) -> Self:
        """Reads a checkpoint.

        Args:
            name: a folder, or a name on the hub.
            config: what transformers read of it; not needed.
            reference: see `config`.

        Raises:
            ModelError: the checkpoint can't be used, or an argument is not known.
        """
        del config
        _check(unknown)
        folder = pretrained.folder(str(name))
        model = cls(configs.read(folder, reference))
        checkpoint.fill(model, folder)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a checkpoint that transformers loads."""
        checkpoint.save_pretrained(self, Path(folder))


class DeepseekForSequenceClassification(SequenceClassifier):
    """See `SequenceClassifier`; its head goes by the name of `classifier` too."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, config: Any = None, reference: Reference = "deepseek", **unknown: Any
    ) -> Self:
        """Reads a checkpoint, with a new head unless it has one for as many labels.

        Args:
            config: what transformers read of it: its `id2label` decides; by default there are two.

        See `DeepseekForCausalLM.from_pretrained` for the rest.
        """
        _check(unknown)
        folder = pretrained.folder(str(name))
        names = {0: "LABEL_0", 1: "LABEL_1"} if config is None else config.id2label
        labels = tuple(names[index] for index in range(len(names)))
        model = cls(replace(configs.read(folder, reference), labels=labels), len(labels))
        checkpoint.fill(model, folder)
        return model

    @property
    def classifier(self) -> Any:
        """Features of the last token [B, hidden] → logits [B, labels]."""
        return self.score

    @classifier.setter
    def classifier(self, head: Any) -> None:
        self.score = head

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a checkpoint that transformers loads; a custom head is not part of it."""
        checkpoint.save_pretrained(self, Path(folder))


def register() -> None:
    """Tells transformers' auto classes which of ours is for which configuration."""
    import transformers  # noqa: PLC0415 (takes seconds)

    for name in _CONFIGURATIONS:
        configuration = getattr(transformers, name)
        for auto, base in (
            (transformers.TFAutoModelForCausalLM, DeepseekForCausalLM),
            (transformers.TFAutoModelForSequenceClassification, DeepseekForSequenceClassification),
        ):
            # They insist on a class for each configuration.
            own = type(base.__name__, (base,), {"config_class": configuration})
            auto.register(configuration, own, exist_ok=True)


def _check(unknown: dict[str, Any]) -> None:
    names = sorted(unknown.keys() - _OF_AUTO_CLASSES)
    if names:
        raise ModelError(f"from_pretrained: {', '.join(names)}: not known here; leave it out")
