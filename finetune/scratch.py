"""Small text models with random weights, for machines that have no checkpoint.

texts ─► byte-level BPE tokenizer     encoder: BERT's architecture, for classification
                                      decoder: GPT-2's or DeepSeek-V3's, for generation
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from finetune import recipe
from finetune.deepseek import config as deepseek
from finetune.deepseek.decoder import CausalLM
from finetune.errors import ModelError, RecipeError
from finetune.pretrained import quiet

PAD, BEGIN, END, MASK = "<pad>", "<s>", "</s>", "<mask>"
_SPECIAL = [PAD, BEGIN, END, MASK]
_KEPT_FREE = 8  # positions beyond the longest text: some architectures count from the pad id


class Scratch:
    """What `Pretrained` is for a checkpoint: tokenizer, configuration, and models.

    Args:
        texts: what the tokenizer learns from.
        positions: the most tokens that a model can read.
        frames: whether the tokenizer puts `<s>` before and `</s>` after a text.

    Raises:
        RecipeError: the sizes don't fit each other.
    """

    name = "scratch"

    def __init__(
        self,
        settings: recipe.Scratch,
        texts: Callable[[], Iterable[str]],
        *,
        positions: int,
        frames: bool,
    ) -> None:
        if settings.hidden % settings.heads:
            raise RecipeError(
                f"scratch.hidden: {settings.hidden} is no multiple of scratch.heads "
                f"{settings.heads}; choose one"
            )
        if settings.decoder == "deepseek_v3" and settings.hidden // settings.heads < 4:
            raise RecipeError(
                f"scratch.heads: {settings.heads} leave a head of deepseek_v3 fewer than 4 of "
                f"scratch.hidden's {settings.hidden} units; choose fewer"
            )
        self._settings = settings
        self._texts = texts
        self._frames = frames
        self.config: dict[str, Any] = {"pad_token_id": 0, "max_position_embeddings": positions}
        if self._is_deepseek:
            self.config["model_type"] = "deepseek_v3"
        self.sha256 = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()

    @functools.cached_property
    def tokenizer_json(self) -> bytes:
        """A tokenizer that knows every byte, and the pairs that are frequent in the texts."""
        return train_tokenizer(
            self._texts(), self._settings.vocabulary, frames=self._frames
        ).encode()

    def load(self, kind: str, labels: Sequence[str] = ()) -> Any:
        """A new model; see `Pretrained.load`."""
        if self._is_deepseek and not labels:
            return CausalLM(deepseek.parse(self._deepseek()))
        import transformers  # noqa: PLC0415 (takes seconds)

        with quiet("transformers"):  # of its TensorFlow classes' end: our pin knows
            return getattr(transformers, kind).from_config(self._configuration(len(labels)))

    def error(self, problem: str) -> ModelError:
        """What is wrong with it."""
        return ModelError(f"scratch: {problem}")

    @property
    def _is_deepseek(self) -> bool:
        return self._settings.decoder == "deepseek_v3"

    @property
    def _vocabulary(self) -> int:
        return int(Tokenizer.from_str(self.tokenizer_json.decode()).get_vocab_size())

    def _deepseek(self) -> dict[str, Any]:
        """A `config.json` of DeepSeek-V3, in whose proportions a small one can learn.

        A head is half as many rotary features as plain ones; queries, keys and values are
        compressed to a fraction of the hidden units; each token is seen by two experts and a
        shared one, of half the hidden units.
        """
        settings = self._settings
        head = settings.hidden // settings.heads
        return {
            "model_type": "deepseek_v3",
            "architectures": ["DeepseekV3ForCausalLM"],
            "vocab_size": self._vocabulary,
            "hidden_size": settings.hidden,
            "intermediate_size": 3 * settings.hidden,
            "num_hidden_layers": settings.layers,
            "num_attention_heads": settings.heads,
            "num_key_value_heads": settings.heads,
            "max_position_embeddings": self.config["max_position_embeddings"] + _KEPT_FREE,
            "q_lora_rank": settings.hidden // 2,
            "kv_lora_rank": settings.hidden // 4,
            "qk_nope_head_dim": head,
            "qk_rope_head_dim": head // 4 * 2,
            "v_head_dim": head,
            "n_routed_experts": settings.experts,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": settings.hidden // 2,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.0,
            "bos_token_id": _SPECIAL.index(BEGIN),
            "eos_token_id": _SPECIAL.index(END),
            "pad_token_id": 0,
        }

    def _configuration(self, labels: int) -> Any:
        from transformers import BertConfig, GPT2Config  # noqa: PLC0415

        settings = self._settings
        vocabulary = self._vocabulary
        positions = self.config["max_position_embeddings"] + _KEPT_FREE
        if not labels:
            return GPT2Config(
                vocab_size=vocabulary,
                n_positions=positions,
                n_embd=settings.hidden,
                n_layer=settings.layers,
                n_head=settings.heads,
                resid_pdrop=settings.dropout,
                embd_pdrop=settings.dropout,
                attn_pdrop=settings.dropout,
                bos_token_id=_SPECIAL.index(BEGIN),
                eos_token_id=_SPECIAL.index(END),
                pad_token_id=0,
            )
        return BertConfig(
            vocab_size=vocabulary,
            hidden_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=4 * settings.hidden,
            max_position_embeddings=positions,
            type_vocab_size=1,
            hidden_dropout_prob=settings.dropout,
            attention_probs_dropout_prob=settings.dropout,
            pad_token_id=0,
            num_labels=labels,
        )


def train_tokenizer(texts: Iterable[str], vocabulary: int, *, frames: bool) -> str:
    """A byte-level BPE tokenizer as JSON: `<pad>` is 0, and no text is unknown to it.

    Source:
        Sennrich et al.: Neural Machine Translation of Rare Words with Subword Units, section 3.2
        (arXiv 1508.07909); over bytes: Radford et al. (GPT-2), section 2.2.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if frames:
        ends = [(token, _SPECIAL.index(token)) for token in (BEGIN, END)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A {END}", special_tokens=ends
        )
    return str(tokenizer.to_str())
