"""Text from a language model on the device, token by token.

    prompt ─► tokens ─► prefill, all but the last ─► cache
                                                       │
       ┌──── token ─► decode ◄─────────────────────────┘
       │                └─► logits ─► choose ─► token ─┬─► whole characters ─► pieces
       └───────────────────────────────────────────────┘

What is remembered of a token, its entry, goes into the cache's next column. A prompt that is longer
than the last bucket is read to its end by `decode`.

`P` is the most tokens of prompt and answer together, `W` what is remembered of each, `C` the
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bundle.detokenize import Detokenizer
from bundle.errors import InputError, ManifestError
from bundle.manifest import Manifest, TensorSpec, TextPreprocess
from bundle.postprocess import real
from edge.runtime import Run
from edge.sampling import Sampling

Logits = NDArray[np.float32]  # [C]
Cache = NDArray[Any]  # [1, P, W]

_DECODE = "decode"


class Writer:
    """See the module.

    Args:
        manifest: of a bundle that has `generation`.
        assets: the files of its preprocessor, by name.
        runs: the model's signatures by name, which give what the model does: a strict int8 model
            remembers integers, which go back into it as they are.

    Raises:
        ManifestError: the model has not the signatures of one that writes.
    """

    def __init__(
        self, manifest: Manifest, assets: Mapping[str, bytes], runs: Mapping[str, Run]
    ) -> None:
        spec, generation = manifest.preprocess, manifest.generation
        if generation is None or not isinstance(spec, TextPreprocess):
            raise ManifestError("generation: is of no model that reads text; publish it again")
        self._cache = _cache(manifest, generation.positions)
        self._told = _logits(manifest, "manifest")
        missing = [name for name in _names(spec).values() if name not in runs]
        if missing:
            raise ManifestError(f"signatures: has no {missing[0]}; publish it again")
        self._positions, self._end_ids = generation.positions, frozenset(generation.end_ids)
        self._prefill = {tokens: runs[name] for tokens, name in _names(spec).items()}
        self._decode = runs[_DECODE]
        self._tokenizer = Tokenizer.from_buffer(assets[spec.tokenizer])
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def logits(self, ids: Sequence[int]) -> Logits:
        """Of what follows a text of at least one token: float32 [C]."""
        return self._begun().read(ids)

    def write(self, prompt: str, settings: Sampling) -> Iterator[str]:
        """Pieces of the text that follows a prompt, each as soon as its characters are whole.

        Raises:
            InputError: the prompt has no token, or too many.
        """
        ids = self._tokenizer.encode(prompt).ids
        most = self._positions - 1
        if not 1 <= len(ids) <= most:
            problem = f"has {len(ids)} tokens; send 1 to {most}, which leaves room for an answer"
            raise InputError("prompt", problem)
        return self._pieces(ids, settings)

    def examples(self) -> dict[str, dict[str, NDArray[np.generic]]]:
        """Inputs for every signature, as long as it takes."""
        one = np.ones(1, np.int32)
        inputs: dict[str, dict[str, NDArray[np.generic]]] = {
            f"prefill_{tokens}": {"input_ids": np.ones((1, tokens), np.int32)}
            for tokens in self._prefill
        }
        return inputs | {_DECODE: {"token": one, "position": one, "cache": self._empty()}}

    def _pieces(self, ids: Sequence[int], settings: Sampling) -> Iterator[str]:
        read, choose = self._begun(), settings.chooser()
        pieces = Detokenizer(self._tokenizer, settings.stop, ids)
        unread = list(ids)
        for _ in range(min(settings.max_new_tokens, self._positions - len(ids))):
            token = choose(read.read(unread))
            if token in self._end_ids:
                break
            unread = [token]
            piece = pieces.push(unread)
            if piece:
                yield piece
            if pieces.stopped:
                return
        rest = pieces.finish()
        if rest:
            yield rest

    def _begun(self) -> _Read:
        return _Read(self._prefill, self._decode, self._empty(), self._told)

    def _empty(self) -> Cache:
        return np.zeros([int(size or 0) for size in self._cache.shape], self._cache.dtype)


class _Read:
    """What a model remembers of one text.

    Args:
        cache: [1, P, W], written in place.
        told: what the logits stand for.
    """

    def __init__(
        self, prefill: Mapping[int, Run], decode: Run, cache: Cache, told: TensorSpec
    ) -> None:
        self._prefill, self._decode, self._cache, self._told = prefill, decode, cache, told
        self._tokens = 0

    def read(self, ids: Sequence[int]) -> Logits:
        """Reads some more tokens: what follows the last."""
        if self._tokens == 0 and len(ids) > 1:
            ids = self._begin(ids)
        for token in ids:
            logits = self._step(token)
        return logits

    def _begin(self, ids: Sequence[int]) -> Sequence[int]:
        """Reads as many as a bucket holds, but not the last; returns the others."""
        longest = max(self._prefill)
        known = ids[: min(longest, len(ids) - 1)]
        tokens = min(each for each in self._prefill if each >= len(known))
        padded = np.zeros((1, tokens), np.int32)
        padded[0, : len(known)] = known
        remembered = self._prefill[tokens]({"input_ids": padded})["cache"]
        self._cache[0, : len(known)] = remembered[0, : len(known)]
        self._tokens = len(known)
        return ids[len(known) :]

    def _step(self, token: int) -> Logits:
        position = np.asarray([self._tokens], np.int32)
        inputs = {"token": np.asarray([token], np.int32), "position": position}
        outputs = self._decode({**inputs, "cache": self._cache})
        self._cache[0, self._tokens] = outputs["entry"][0]
        self._tokens += 1
        return real(outputs["logits"][0], self._told)


def vocabulary(manifest: Manifest, origin: str) -> int:
    """C, of a manifest that has `generation`.

    Args:
        origin: where it came from, for the message.

    Raises:
        ManifestError: no signature gives logits of the next token.
    """
    return int(_logits(manifest, origin).shape[-1] or 0)


def _logits(manifest: Manifest, origin: str) -> TensorSpec:
    decode = manifest.signatures.get(_DECODE)
    for spec in decode.outputs if decode else ():
        if spec.name == "logits" and spec.shape and spec.shape[-1]:
            return spec
    raise ManifestError(
        f"{origin}: signatures: have no {_DECODE} that gives logits; publish it again"
    )


def _names(spec: TextPreprocess) -> dict[int, str]:
    return {tokens: f"prefill_{tokens}" for tokens in spec.buckets}


def _cache(manifest: Manifest, positions: int) -> TensorSpec:
    """What `decode` remembers texts in: float32, or the integers of a strict int8 model."""
    decode = manifest.signatures.get(_DECODE)
    for spec in decode.inputs if decode else ():
        if spec.name == "cache" and len(spec.shape) == 3 and spec.shape[1] == positions:
            return spec
    raise ManifestError(
        f"signatures: have no {_DECODE} with a cache of {positions} columns; publish it again"
    )
