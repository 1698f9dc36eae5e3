"""A checkpoint of 1.8 billion numbers on a small machine: loaded, asked to write, and adapted.

command   make bench-deepseek-scale
machine   2 cores, no GPU, 24 GB
date      2026-11-25
result    load_peak 1.058, load_s 18, first_s 11, tokens_per_s 4.6, lora_step_s 26, lora_peak_bytes
          4.8e9; a minute and a half in all

The sizes are DeepSeek-R1-Distill-Qwen-1.5B's, the weights are random, bfloat16, in shards.

    load_peak        most memory while loading, over what the weights need
    load_s           seconds of that
    tokens_per_s     of 8 greedy ones after a prompt of 16, with compilation: `first_s`; and again
    lora_step_s      one step of rank 8 on all of attention, 64 tokens, its compilation included
    lora_peak_bytes  most memory while it ran, above what the process had before it loaded anything
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

import finetune  # noqa: F401 (chooses Keras 2, before TensorFlow is imported)

_OUT = Path("build", "benchmarks")
_SIZES = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
_SHARD = 2**29  # numbers, 1 GB
_PROMPT, _WRITTEN, _TRAINED = 16, 8, 64  # tokens


def main() -> None:
    """Makes the checkpoint, measures in another process, and prints one JSON line."""
    _OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_OUT) as folder:
        _write(Path(folder))
        command = [sys.executable, "-m", "benchmarks.deepseek_scale", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout.splitlines()[-1])


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, units = _SIZES["hidden_size"], _SIZES["intermediate_size"]
    keys = hidden // _SIZES["num_attention_heads"] * _SIZES["num_key_value_heads"]
    yield "model.embed_tokens.weight", (_SIZES["vocab_size"], hidden)
    for block in range(_SIZES["num_hidden_layers"]):
        prefix = f"model.layers.{block}"
        for name, rows in (("q_proj", hidden), ("k_proj", keys), ("v_proj", keys)):
            yield f"{prefix}.self_attn.{name}.weight", (rows, hidden)
            yield f"{prefix}.self_attn.{name}.bias", (rows,)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{prefix}.mlp.gate_proj.weight", (units, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (units, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, units)
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (_SIZES["vocab_size"], hidden)


def _write(folder: Path) -> None:
    generator = np.random.default_rng(0)
    files: dict[str, str] = {}
    shard: dict[str, Any] = {}

    def flush() -> None:
        name = f"model-{len(set(files.values())) + 1:05}.safetensors"
        save_file(shard, str(folder / name), metadata={"format": "pt"})
        files.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, shape in _shapes():
        values = generator.standard_normal(shape, np.float32) * 0.02 + name.endswith("norm.weight")
        if sum(each.size for each in shard.values()) + values.size > _SHARD:
            flush()
        shard[name] = values.astype(ml_dtypes.bfloat16)
    flush()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "config.json").write_text(json.dumps(_SIZES))


def _measure(folder: Path) -> dict[str, Any]:
    import tensorflow as tf  # noqa: PLC0415
    import tf_keras  # noqa: PLC0415

    from finetune.deepseek import checkpoint  # noqa: PLC0415

    tf_keras.mixed_precision.set_global_policy("bfloat16")
    tf.linalg.matmul(tf.ones([8, 8]), tf.ones([8, 8]))  # starts the runtime
    before = _forget_peak()
    began = time.monotonic()
    model = checkpoint.from_pretrained(folder)
    load_s, peak_bytes = time.monotonic() - began, _peak_bytes()
    weights = sum(variable.numpy().nbytes for variable in model.variables)
    figures = {
        "benchmark": "deepseek_scale",
        "parameters": sum(int(np.prod(variable.shape)) for variable in model.variables),
        "weights_bytes": weights,
        "load_peak": round((peak_bytes - before) / weights, 3),
        "load_s": round(load_s, 1),
        **_generate(model),
    }
    _forget_peak()
    return {**figures, **_adapt(model), "lora_peak_bytes": _peak_bytes() - before}


def _generate(model: Any) -> dict[str, float]:
    from finetune.deepseek.generate import Generator  # noqa: PLC0415
    from finetune.deepseek.sampling import Settings  # noqa: PLC0415

    generator, prompt = Generator(model), list(range(100, 100 + _PROMPT))
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        (answer,) = generator.generate([prompt], Settings(max_new_tokens=_WRITTEN))
        seconds.append(time.monotonic() - began)
    assert len(answer.tokens) == _WRITTEN
    return {
        "first_s": round(seconds[0], 1),
        "tokens_per_s": round(_WRITTEN / seconds[1], 2),
    }


def _adapt(model: Any) -> dict[str, float]:
    import tensorflow as tf  # noqa: PLC0415

    from finetune import optimizer as optimizers  # noqa: PLC0415
    from finetune import recipe  # noqa: PLC0415
    from finetune.deepseek.lora import Adapters  # noqa: PLC0415
    from finetune.distribution import Distribution  # noqa: PLC0415
    from finetune.dropout import DropoutSeed  # noqa: PLC0415
    from finetune.step import Step  # noqa: PLC0415

    began = time.monotonic()
    Adapters(model, recipe.Lora())
    variables = model.trainable_variables
    optimizer = optimizers.build(
        recipe.Optimizer(), recipe.Schedule(), 1, "mixed_bfloat16", variables
    )
    step = Step(
        _modelling(), model, optimizer, DropoutSeed(model, 0), Distribution(), clip_norm=1.0
    )
    ids = tf.constant(np.random.default_rng(0).integers(0, 150_000, [1, _TRAINED]), tf.int32)
    batch = {"input_ids": ids, "attention_mask": tf.ones_like(ids), "weights": tf.ones([1])}
    outcome = step(batch, 0)
    assert np.isfinite(float(outcome.loss))
    return {
        "lora_parameters": sum(int(np.prod(variable.shape)) for variable in variables),
        "lora_loss": round(float(outcome.loss), 3),
        "lora_gradient_norm": round(float(outcome.gradient_norm), 4),
        "lora_step_s": round(time.monotonic() - began, 1),
    }


def _modelling() -> Any:
    """A language model's loss, without a recipe."""
    from finetune.tasks.text_generation import TextGeneration  # noqa: PLC0415

    return TextGeneration.__new__(TextGeneration)


def _forget_peak() -> int:
    """Begins to measure anew; the memory of now, bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_measure(Path(sys.argv[1]))))
    else:
        main()
