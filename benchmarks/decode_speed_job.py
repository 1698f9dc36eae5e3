"""What every contender of `decode_speed` is told, and the two random models it decodes with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

Contender = Literal["ours", "pytorch"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One contender's decoding of one model, for some sizes of the batch."""

    contender: Contender
    dtype: Literal["float32", "bfloat16"]
    folder: str  # of the checkpoint
    batches: list[int]
    prompt: int  # tokens
    new: int  # tokens
    seed: int
    threads: int

    def to_json(self) -> str:
        """As a contender reads it."""
        return json.dumps(asdict(self))


_COMMON: dict[str, Any] = {
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
V3: dict[str, Any] = {  # 52 million parameters, of which a token reads 32 million
    **_COMMON,
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "vocab_size": 16_000,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "moe_intermediate_size": 160,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "q_lora_rank": 192,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_shared_experts": 1,
    "n_group": 4,
    "topk_group": 2,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "first_k_dense_replace": 1,
}
QWEN2: dict[str, Any] = {  # 100 million parameters
    **_COMMON,
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 32_000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
