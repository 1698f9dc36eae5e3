"""What a checkpoint's `config.json` says of the decoder, checked and under one set of names.

Where transformers 4.54 differs from DeepSeek's own code, the reference decides which to follow:

    deepseek_v2   under YaRN, scores are multiplied by mscale², see `rotary.softmax_factor`
                  transformers leaves that out
    deepseek_v2   `norm_topk_prob`: the chosen experts' weights are normalized, then not scaled
                  transformers never normalizes them
    deepseek_v3   experts outside of the best groups are never chosen (−∞)
                  transformers gives them 0, which beats an expert whose bias makes it negative

Source: `modeling_deepseek.py` beside DeepSeek-V2's checkpoint, classes MoEGate and
DeepseekV2Attention; `inference/model.py` of DeepSeek-V3, classes Gate and MLA.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from finetune.errors import ModelError

Family = Literal["llama", "qwen2", "deepseek_v2", "deepseek_v3"]
FAMILIES: tuple[Family, ...] = get_args(Family)
Router = Literal["softmax", "sigmoid"]
Reference = Literal["deepseek", "transformers"]


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary position embedding; see `rotary`."""

    theta: float
    kind: Literal["default", "linear", "llama3", "yarn"] = "default"
    factor: float = 1.0  # by how much the context was extended
    original_positions: int = 0  # before that
    low_frequency_factor: float = 1.0  # of llama3
    high_frequency_factor: float = 4.0
    beta_fast: float = 32.0  # of YaRN
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None
    scales_scores: bool = True  # by YaRN's factor


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention; see `latent_attention`. All are numbers of features."""

    query_rank: int | None  # None: queries are not compressed
    key_value_rank: int
    plain: int  # of a head's query and key, without position
    rotary: int  # of a head's query, and of the one key that all heads share
    value: int  # of a head


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Mixture of experts; see `experts`."""

    count: int
    chosen: int  # for each token
    hidden: int  # units of an expert
    shared: int  # experts that see every token
    router: Router
    groups: int = 1
    chosen_groups: int = 1
    normalizes: bool = False  # the weights of the chosen ones to 1
    scale: float = 1.0  # of the weights
    first_dense: int = 0  # blocks before the first that has experts
    has_bias: bool = False  # `e_score_correction_bias`
    outside: float = -math.inf  # what an expert outside of the best groups is worth


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder of the family."""

    family: Family
    vocabulary: int
    hidden: int
    blocks: int
    heads: int
    key_value_heads: int
    head_features: int
    feed_forward: int  # units of a dense block
    epsilon: float  # of the norms
    positions: int  # the longest text
    rope: Rope
    query_bias: bool = False  # of q, k and v (of latent attention: of what compresses them)
    output_bias: bool = False
    feed_forward_bias: bool = False
    tied: bool = False  # the head is the embedding
    latent: Latent | None = None
    experts: Experts | None = None
    window: int | None = None  # how many tokens a token of a windowed block reads
    windowed: tuple[bool, ...] = ()  # which blocks are
    initializer_range: float = 0.02
    pad_token_id: int = 0
    labels: tuple[str, ...] = ()  # of a classifier
    source: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # the file

    @property
    def hidden_size(self) -> int:
        """`hidden`, by the name that transformers' configurations have for it."""
        return self.hidden

    @property
    def id2label(self) -> dict[int, str]:
        """`labels`, as transformers' configurations have them."""
        return dict(enumerate(self.labels))

    @property
    def label2id(self) -> dict[str, int]:
        """The inverse of `id2label`."""
        return {label: index for index, label in enumerate(self.labels)}

    def window_of(self, block: int) -> int | None:
        """How many tokens each reads in a block, its own included; None is no limit."""
        return self.window if self.window is not None and self.windowed[block] else None

    def has_experts(self, block: int) -> bool:
        """Whether a block's feed-forward is a mixture."""
        return self.experts is not None and block >= self.experts.first_dense


def read(folder: Path, reference: Reference = "deepseek") -> DecoderConfig:
    """The configuration of a checkpoint's folder.

    Args:
        reference: whom to follow where they differ; see the module.

    Raises:
        ModelError: it is missing, or not of the family; names the key, its value and the fix.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; name a whole checkpoint's folder") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}; restore the file") from error
    try:
        return parse(content, reference)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def parse(content: dict[str, Any], reference: Reference = "deepseek") -> DecoderConfig:
    """The configuration that Hugging Face's keys describe; see `read`."""
    kind = content.get("model_type")
    if kind not in FAMILIES:
        raise ModelError(f"model_type: {kind!r} is not supported; use one of {', '.join(FAMILIES)}")
    family: Family = kind
    if content.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act: {content['hidden_act']!r} is not supported; only silu is")
    if content.get("use_sliding_window") and family != "qwen2":
        raise ModelError(f"use_sliding_window: true is not supported by {family}; set it to false")
    try:
        found = _parse(content, family)
    except KeyError as error:
        raise ModelError(f"{error.args[0]}: is missing; add it") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"has a value of the wrong type: {error}; restore the file") from error
    return _as_transformers(found) if reference == "transformers" else found


def _as_transformers(config: DecoderConfig) -> DecoderConfig:
    experts = config.experts
    if config.family == "deepseek_v2":
        if experts is not None:
            experts = replace(experts, normalizes=False)
        return replace(config, rope=replace(config.rope, scales_scores=False), experts=experts)
    if config.family == "deepseek_v3" and experts is not None:
        return replace(config, experts=replace(experts, outside=0.0))
    return config


def _parse(content: dict[str, Any], family: Family) -> DecoderConfig:
    hidden, heads = int(content["hidden_size"]), int(content["num_attention_heads"])
    is_latent = family in ("deepseek_v2", "deepseek_v3")
    bias = bool(content.get("attention_bias", False))
    positions = int(content.get("max_position_embeddings", 2048))
    return DecoderConfig(
        family=family,
        vocabulary=int(content["vocab_size"]),
        hidden=hidden,
        blocks=int(content["num_hidden_layers"]),
        heads=heads,
        key_value_heads=int(content.get("num_key_value_heads") or heads),
        head_features=int(content.get("head_dim") or hidden // heads),
        feed_forward=int(content["intermediate_size"]),
        epsilon=float(content.get("rms_norm_eps", 1e-6)),
        positions=positions,
        rope=_rope(content, positions),
        query_bias=bias or family == "qwen2",
        output_bias=bias and family != "qwen2",
        feed_forward_bias=bool(content.get("mlp_bias", False)),
        tied=bool(content.get("tie_word_embeddings", False)),
        latent=_latent(content) if is_latent else None,
        experts=_experts(content, family)
        if is_latent and content.get("n_routed_experts")
        else None,
        **_window(content),
        initializer_range=float(content.get("initializer_range", 0.02)),
        pad_token_id=int(content.get("pad_token_id") or 0),
        source=content,
    )


def _window(content: dict[str, Any]) -> dict[str, Any]:
    """Of Qwen2: all blocks but the first ones have it, unless they are listed."""
    if not content.get("use_sliding_window") or content.get("sliding_window") is None:
        return {}
    blocks, whole = int(content["num_hidden_layers"]), int(content.get("max_window_layers", 28))
    sliding, full = "sliding_attention", "full_attention"
    kinds = content.get("layer_types") or [
        sliding if block >= whole else full for block in range(blocks)
    ]
    if len(kinds) != blocks or not set(kinds) <= {sliding, full}:
        raise ModelError(f"layer_types: {kinds} must be {blocks} of {sliding} and {full}")
    return {
        "window": int(content["sliding_window"]),
        "windowed": tuple(kind == sliding for kind in kinds),
    }


def _rope(content: dict[str, Any], positions: int) -> Rope:
    theta = float(content.get("rope_theta", 10_000.0))
    scaling = content.get("rope_scaling")
    if not scaling:
        return Rope(theta=theta)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear", "llama3", "yarn"):
        raise ModelError(f"rope_scaling: type {kind!r} is not supported; linear, llama3 or yarn")
    attention_factor = scaling.get("attention_factor")
    return Rope(
        theta=theta,
        kind=kind,
        factor=float(scaling.get("factor", 1.0)),
        original_positions=int(scaling.get("original_max_position_embeddings", positions)),
        low_frequency_factor=float(scaling.get("low_freq_factor", 1.0)),
        high_frequency_factor=float(scaling.get("high_freq_factor", 4.0)),
        beta_fast=float(scaling.get("beta_fast") or 32.0),
        beta_slow=float(scaling.get("beta_slow") or 1.0),
        mscale=float(scaling.get("mscale") or 0.0),
        mscale_all_dim=float(scaling.get("mscale_all_dim") or 0.0),
        attention_factor=None if attention_factor is None else float(attention_factor),
    )


def _latent(content: dict[str, Any]) -> Latent:
    rank = content.get("q_lora_rank")
    return Latent(
        query_rank=None if rank is None else int(rank),
        key_value_rank=int(content["kv_lora_rank"]),
        plain=int(content["qk_nope_head_dim"]),
        rotary=int(content["qk_rope_head_dim"]),
        value=int(content["v_head_dim"]),
    )


def _experts(content: dict[str, Any], family: Family) -> Experts:
    is_v3 = family == "deepseek_v3"
    if int(content.get("moe_layer_freq", 1)) != 1:
        raise ModelError(f"moe_layer_freq: {content['moe_layer_freq']} is not supported; only 1 is")
    method = content.get("topk_method", "noaux_tc" if is_v3 else "greedy")
    limits = method in ("group_limited_greedy", "noaux_tc")
    return Experts(
        count=int(content["n_routed_experts"]),
        chosen=int(content["num_experts_per_tok"]),
        hidden=int(content["moe_intermediate_size"]),
        shared=int(content.get("n_shared_experts") or 0),
        router="sigmoid" if is_v3 else "softmax",
        groups=int(content.get("n_group") or 1) if limits else 1,
        chosen_groups=int(content.get("topk_group") or 1) if limits else 1,
        normalizes=bool(content.get("norm_topk_prob", is_v3)),
        scale=float(content.get("routed_scaling_factor", 1.0)),
        first_dense=int(content.get("first_k_dense_replace", 0)),
        has_bias=is_v3,
    )
