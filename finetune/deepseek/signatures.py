"""What a server can call of a language model to have texts written; it remembers nothing itself.

    generate   prompts, max_new_tokens ─► all tokens
    prefill    prompts                 ─► the first token, cache
    decode     all tokens so far, cache, steps ─► so many more tokens, cache

`prefill`, then `decode` in any pieces, give what `generate` gives. Prompts are padded on the left;
decode's last column of tokens is the one that the cache does not hold yet. `B` is the batch, `T`
the tokens, `W` the width of the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from bundle.manifest import Signature, TensorSpec
from finetune.deepseek import cache, decoding
from finetune.deepseek.sampling import Sampling

_PROMPTS = tuple(
    TensorSpec(name=name, dtype="int32", shape=(None, None))
    for name in ("input_ids", "attention_mask")
)
_SETTINGS = (
    TensorSpec(name="temperature", dtype="float32", shape=(None,)),  # 0: the most likely token
    TensorSpec(name="top_k", dtype="int32", shape=(None,)),  # 0: no limit
    TensorSpec(name="top_p", dtype="float32", shape=(None,)),  # 1: no limit
    TensorSpec(name="repetition_penalty", dtype="float32", shape=(None,)),  # 1: none
    TensorSpec(name="seed", dtype="int32", shape=(None,)),
)
_TOKENS = TensorSpec(name="tokens", dtype="int32", shape=(None, None))
_LENGTHS = TensorSpec(name="lengths", dtype="int32", shape=(None,))


def described(model: Any) -> dict[str, Signature]:
    """What a manifest says of the functions that `make` makes of a built `CausalLM`."""
    width = cache.width(model.config)
    remembered = TensorSpec(name="cache", dtype=model.compute_dtype, shape=(None, None, width))
    most = TensorSpec(name="max_new_tokens", dtype="int32", shape=())
    steps = TensorSpec(name="steps", dtype="int32", shape=())
    given = (*_PROMPTS, *_SETTINGS)
    return {
        "generate": Signature(inputs=(*given, most), outputs=(_TOKENS, _LENGTHS)),
        "prefill": Signature(inputs=given, outputs=(_TOKENS, remembered)),
        "decode": Signature(inputs=(*given, remembered, steps), outputs=(_TOKENS, remembered)),
    }


def make(model: Any, end_ids: Sequence[int]) -> dict[str, Any]:
    """The concrete functions by name.

    Args:
        model: a built `CausalLM`.
        end_ids: tokens that end a text.
    """
    ends = tf.constant(list(end_ids), tf.int32)

    def generate(**given: Any) -> dict[str, Any]:
        ids, mask, settings = _taken(given)
        token, memory = decoding.start(model, ids, mask, settings)
        begun = tf.concat([ids, token[:, None]], axis=1)
        mask = tf.pad(mask, [[0, 0], [0, 1]], constant_values=1)
        steps = given["max_new_tokens"] - 1
        texts = decoding.room(begun, mask, memory, steps)
        texts = decoding.advance(model, texts, steps, settings, ends)
        tokens = texts.ids[:, tf.shape(ids)[1] :]
        return {"tokens": tokens, "lengths": decoding.lengths(tokens, ends)}

    def prefill(**given: Any) -> dict[str, Any]:
        token, memory = decoding.start(model, *_taken(given))
        return {"tokens": token[:, None], "cache": cache.pack(memory)}

    def decode(**given: Any) -> dict[str, Any]:
        ids, mask, settings = _taken(given)
        memory = cache.unpack(model.config, given["cache"])
        texts = decoding.room(ids, mask, memory, given["steps"])
        texts = decoding.advance(model, texts, given["steps"], settings, ends)
        tokens = texts.ids[:, tf.shape(ids)[1] :]
        return {"tokens": tokens, "cache": cache.pack(texts.memory)[:, :-1]}

    functions = {"generate": generate, "prefill": prefill, "decode": decode}
    return {
        # Concrete, since a tf.function has no input signature for arguments by name.
        name: tf.function(functions[name]).get_concrete_function(
            **{each.name: tf.TensorSpec(each.shape, each.dtype, each.name) for each in told.inputs}
        )
        for name, told in described(model).items()
    }


def _taken(given: dict[str, Any]) -> tuple[Any, Any, Sampling]:
    settings = Sampling(**{name: given[name] for name in Sampling._fields})
    return given["input_ids"], given["attention_mask"], settings
