"""Laws of configurations: what is not supported is named, with its value and what would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.deepseek import config
from finetune.errors import ModelError

GOLDEN = Path(__file__).parent / "golden"


def content(variant: str, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((GOLDEN / variant / "config.json").read_text())
    return told | changes


def test_qwen2_has_biases_on_queries_keys_and_values_only() -> None:
    found = config.parse(content("qwen2"))
    assert (found.query_bias, found.output_bias, found.experts, found.latent) == (
        True,
        False,
        None,
        None,
    )


def test_the_first_blocks_of_deepseek_are_dense() -> None:
    found = config.parse(content("v3"))
    assert [found.has_experts(block) for block in range(2)] == [False, True]
    assert found.experts is not None
    assert (found.experts.router, found.experts.has_bias) == ("sigmoid", True)


def test_groups_count_only_where_the_method_limits_them() -> None:
    greedy = config.parse(content("v2", topk_method="greedy")).experts
    limited = config.parse(content("v2")).experts
    assert greedy is not None
    assert limited is not None
    assert (greedy.groups, limited.groups) == (1, 4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "bert"}, "model_type: 'bert' is not supported; use one of llama, qwen2"),
        ({"model_type": None}, "model_type: None is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act: 'gelu' is not supported; only silu is"),
        ({"use_sliding_window": True}, "use_sliding_window: true is not supported"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_scaling: type 'longrope' is not supported"),
        ({"moe_layer_freq": 2}, "moe_layer_freq: 2 is not supported; only 1 is"),
        ({"hidden_size": "wide"}, "has a value of the wrong type: .*'wide'"),
        ({"rope_scaling": 3}, "has a value of the wrong type"),
    ],
)
def test_what_is_not_supported_is_named(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ModelError, match=f"^{expected}"):
        config.parse(content("v3", **changes))


def test_a_missing_key_and_a_missing_file_are_named(tmp_path: Path) -> None:
    told = content("v3")
    del told["kv_lora_rank"]
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"config\.json: kv_lora_rank: is missing; add it"):
        config.read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: not JSON"):
        config.read(tmp_path)
    with pytest.raises(ModelError, match="No such file or directory"):
        config.read(tmp_path / "none")


def test_qwen2_reads_a_window_in_the_blocks_that_have_one() -> None:
    found = config.parse(content("qwen2-window"))
    assert [found.window_of(block) for block in range(2)] == [None, 5]
    plain = content("qwen2-window", layer_types=None, max_window_layers=0)
    assert config.parse(plain).windowed == (True, True)
    assert config.parse(plain | {"use_sliding_window": False}).window_of(0) is None
    with pytest.raises(ModelError, match=r"^layer_types: \['chunked_attention'\] must be 2 of"):
        config.parse(plain | {"layer_types": ["chunked_attention"]})
