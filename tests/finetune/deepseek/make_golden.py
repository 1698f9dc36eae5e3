"""Writes the golden checkpoints: small random models and what PyTorch transformers says of them.

    python tests/finetune/deepseek/make_golden.py OUT      needs torch and transformers 4.54

Where transformers differs from DeepSeek's own code, the difference is undone here: YaRN's softmax
factor of `deepseek_v2`, and the value that experts outside of the best groups get in V3's router.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.deepseek_v3 import modeling_deepseek_v3

_SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
_LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
_YARN = {
    "type": "yarn",
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
VARIANTS = {
    "llama": ("llama", {"num_key_value_heads": 2}),
    "llama3-rope": (
        "llama",
        {
            "rope_theta": 500.0,
            "tie_word_embeddings": True,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "qwen2": ("qwen2", {"num_key_value_heads": 2}),
    "v2-lite": ("deepseek_v2", {**_LATENT, "q_lora_rank": None, "topk_method": "greedy"}),
    "v2": (
        "deepseek_v2",
        {
            **_LATENT,
            "q_lora_rank": 10,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 1.7,
        },
    ),
    "v3": (
        "deepseek_v3",
        {
            **_LATENT,
            "q_lora_rank": 10,
            "n_group": 4,
            "topk_group": 2,
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
        },
    ),
    "v3-yarn": (
        "deepseek_v3",
        {
            **_LATENT,
            "q_lora_rank": 10,
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 2.5,
            "rope_scaling": _YARN,
        },
    ),
    "v2-yarn": (
        "deepseek_v2",
        {**_LATENT, "q_lora_rank": None, "topk_method": "greedy", "rope_scaling": _YARN},
    ),
    "qwen2-window": (
        "qwen2",
        {
            "num_key_value_heads": 2,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    ),
}


def main(out: Path) -> None:
    """Writes a folder for each variant: config.json, model.safetensors, golden.npz."""
    _follow_deepseek()
    for seed, (name, (kind, settings)) in enumerate(VARIANTS.items()):
        torch.manual_seed(seed)
        config = AutoConfig.for_model(kind, **_SIZES | settings)
        config._attn_implementation = "eager"
        model = AutoModelForCausalLM.from_config(config).eval()
        if name == "v2-yarn":
            _scale_scores(model)
        for key, value in model.state_dict().items():
            if key.endswith("e_score_correction_bias"):
                value.normal_(std=0.2)
            elif "norm" in key or key.endswith("bias"):
                value.add_(torch.randn_like(value) * 0.1)
        folder = out / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        ids = torch.randint(1, 61, (3, 9))
        mask = torch.ones_like(ids)
        mask[1, :4] = 0  # padded on the left
        mask[2, 6:] = 0  # padded on the right
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            logits = model(ids, attention_mask=mask, position_ids=positions).logits
            greedy = _continued(model, ids[:1])
        np.savez_compressed(
            folder / "golden.npz",
            input_ids=ids.numpy().astype(np.int32),
            attention_mask=mask.numpy().astype(np.int32),
            logits=logits.numpy(),
            greedy=greedy.numpy().astype(np.int32),
        )
        print(name, json.dumps(sorted(path.name for path in folder.iterdir())))


def _continued(model: torch.nn.Module, prompt: torch.Tensor) -> torch.Tensor:
    """A prompt, this one or another, with 64 tokens of which none was chosen by a hair."""
    while True:
        greedy = model.generate(prompt, max_new_tokens=64, do_sample=False, eos_token_id=None)
        best = model(greedy).logits[0, prompt.shape[1] - 1 : -1].topk(2).values
        if (best[:, 0] - best[:, 1]).min() > 1e-3:
            return greedy
        prompt = torch.randint(1, 61, prompt.shape)


def _scale_scores(model: torch.nn.Module) -> None:
    """DeepSeek-V2's modeling_deepseek.py, class DeepseekV2Attention; transformers leaves it out."""
    mscale = 0.1 * _YARN["mscale_all_dim"] * math.log(_YARN["factor"]) + 1.0
    for layer in model.model.layers:
        layer.self_attn.scaling *= mscale**2


def _follow_deepseek() -> None:
    """DeepSeek's inference/model.py, class Gate, masks with −inf; transformers with 0."""
    original = modeling_deepseek_v3.DeepseekV3TopkRouter.get_topk_indices

    def masked(self: torch.nn.Module, scores: torch.Tensor) -> torch.Tensor:
        lowest = self.e_score_correction_bias.min() - 1  # makes every preference positive
        with torch.no_grad():
            self.e_score_correction_bias -= lowest
            chosen = original(self, scores)
            self.e_score_correction_bias += lowest
        return chosen

    modeling_deepseek_v3.DeepseekV3TopkRouter.get_topk_indices = masked


if __name__ == "__main__":
    main(Path(sys.argv[1]))
