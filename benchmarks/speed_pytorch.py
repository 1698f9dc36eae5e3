"""A contender of `train_speed`: transformers' PyTorch Trainer, in an environment of its own.

Run as a script with a `speed_job.Job` as JSON; prints how it went as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Takes each epoch's time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Starts."""
        self._start = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stops."""
        self.seconds.append(time.perf_counter() - self._start)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Trains as the job says."""
    torch.set_num_threads(job["threads"])
    folder = Path(job["encoder"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        model_max_length=job["max_tokens"],
        pad_token="[PAD]",  # noqa: S106 (not a secret)
    )
    train = _examples(Path(job["train"]), tokenizer, job["labels"])
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    clock = Clock()
    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model=model,
            args=_arguments(job, output),
            train_dataset=train,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[clock],
        )
        trainer.train()
        accuracy = None
        if job["test"]:
            test = _examples(Path(job["test"]), tokenizer, job["labels"])
            answers = trainer.predict(test)
            accuracy = float((answers.predictions.argmax(-1) == answers.label_ids).mean())
    return {"examples": len(train), "epochs_s": clock.seconds, "accuracy": accuracy}


def _examples(path: Path, tokenizer: Any, labels: list[str]) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    encoded = tokenizer([row["text"] for row in rows], truncation=True)["input_ids"]
    return [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels.index(row["label"])}
        for ids, row in zip(encoded, rows, strict=True)
    ]


def _arguments(job: dict[str, Any], output: str) -> Any:
    """Trainer's own defaults, but for what the recipe says."""
    return TrainingArguments(
        output_dir=output,
        per_device_train_batch_size=job["batch_size"],
        per_device_eval_batch_size=64,
        learning_rate=job["learning_rate"],
        weight_decay=job["weight_decay"],
        max_grad_norm=job["clip_norm"],
        lr_scheduler_type="cosine",
        warmup_ratio=job["warmup"],
        num_train_epochs=job["epochs"],
        seed=job["seed"],
        bf16=job["bfloat16"],
        group_by_length=job["grouped"],
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
