"""The manifest: everything a reader must know about a trained model, as typed, frozen records.

    models/<name>/<N>/assets.extra/manifest.json     a SavedModel bundle
    <N>-<profile>.zip:manifest.json                  an edge bundle, which also has `edge`

Shapes use `None` for a size that is only known at run time. `B` is the batch, `T` the number
of tokens, `C` the number of labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec

from bundle.errors import ManifestError

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
EDGE_MODEL_FILE = "model.tflite"

Task = Literal["text-classification", "image-classification", "text-generation"]
Profile = Literal["float32", "float16", "dynamic_int8", "full_int8", "mixed_int8"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){1,3}")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of a manifest: immutable, and strict about unknown fields."""


class Quantization(Record, frozen=True, kw_only=True):
    """What integers of a tensor stand for: scale · (integer − zero_point)."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale {self.scale} must be above 0")


class TensorSpec(Record, frozen=True, kw_only=True):
    """One input or output of a signature."""

    name: str
    dtype: str  # NumPy's name: int32, float32, …
    shape: tuple[int | None, ...]
    quantization: Quantization | None = None  # None: its values are what they are


class Signature(Record, frozen=True, kw_only=True):
    """A function of the model that a server or an interpreter can call."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class TextPreprocess(Record, frozen=True, kw_only=True, tag="text", tag_field="kind"):
    """How text becomes `input_ids` and `attention_mask`, both int32 [B, T].

    `T` is the smallest of `buckets` that holds the longest text of the batch. Of a text that is
    longer than the last bucket, the `keep` tokens stay, as in training.
    """

    tokenizer: str = "tokenizer.json"
    buckets: tuple[int, ...]
    pad_id: int
    max_characters: int
    keep: Literal["first", "last"] = "first"

    @property
    def files(self) -> tuple[str, ...]:
        """What it needs of the bundle."""
        return (self.tokenizer,)

    @property
    def inputs(self) -> Mapping[str, str]:
        """The tensors it makes, all of one shape: name → dtype."""
        return {"input_ids": "int32", "attention_mask": "int32"}

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of an example's tensors."""
        return (None,)

    @property
    def variants(self) -> Mapping[str, tuple[int, ...]]:
        """Every shape that an example's tensors may have, by the name of its signature."""
        return {f"tokens_{tokens}": (tokens,) for tokens in self.buckets}

    def __post_init__(self) -> None:
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"buckets {list(self.buckets)} must rise, with at least one")
        if self.buckets[0] < 1 or self.max_characters < 1:
            raise ValueError("buckets and max_characters must be at least 1")
        if self.pad_id < 0:
            raise ValueError(f"pad_id {self.pad_id} must be at least 0")
        check_relative(self.tokenizer)


class ImagePreprocess(Record, frozen=True, kw_only=True, tag="image", tag_field="kind"):
    """How an encoded picture becomes `pixels`, uint8 [B, H, W, 3].

    It is turned upright, made RGB, and resized to `height` × `width` with an antialiased bilinear
    filter. The model's graph does the rest: scaling and normalization.
    """

    height: int
    width: int
    max_pixels: int = 50_000_000

    @property
    def files(self) -> tuple[str, ...]:
        """What it needs of the bundle."""
        return ()

    @property
    def inputs(self) -> Mapping[str, str]:
        """The tensors it makes, all of one shape: name → dtype."""
        return {"pixels": "uint8"}

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of an example's tensors."""
        return (self.height, self.width, 3)

    @property
    def variants(self) -> Mapping[str, tuple[int, ...]]:
        """Every shape that an example's tensors may have, by the name of its signature."""
        return {"pixels": (self.height, self.width, 3)}

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name} {getattr(self, name)} must be 1 to 4096")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels {self.max_pixels} must be at least 1")


Preprocess = TextPreprocess | ImagePreprocess


class Generation(Record, frozen=True, kw_only=True):
    """What a caller must know to have texts written; only for models that can.

    A SavedModel has the signatures `generate`, `prefill` and `decode`, an edge bundle
    `prefill_<T>` of each bucket and `decode`.
    """

    positions: int  # the most tokens of prompt and answer together
    end_ids: tuple[int, ...]  # tokens that end a text

    def __post_init__(self) -> None:
        if self.positions < 1:
            raise ValueError(f"positions {self.positions} must be at least 1")


class Metric(Record, frozen=True, kw_only=True):
    """A measured figure, with what it was measured on."""

    value: float
    n: int  # examples
    data_sha256: str
    low: float | None = None  # 95% confidence interval
    high: float | None = None


class Provenance(Record, frozen=True, kw_only=True):
    """Where a model comes from."""

    recipe: dict[str, Any]  # the effective recipe
    recipe_sha256: str
    base_model: str
    base_model_sha256: str
    data_sha256: str
    packages: dict[str, str]
    git_commit: str | None = None
    parent_version: int | None = None
    created: str  # ISO 8601, UTC


class Calibration(Record, frozen=True, kw_only=True):
    """The examples that showed which numbers flow through a model."""

    split: Literal["train"]
    examples: int
    sha256: str  # of their inputs, in order


class Attempt(Record, frozen=True, kw_only=True):
    """A way to quantize that was tried, and what it kept on the dev split."""

    step: str
    settings: dict[str, float]
    drop: float  # of the accuracy; of a language model, how much its perplexity rises: 0.02 is 2%
    agreement: float  # share of examples with the float model's label, or of tokens
    error: float  # root mean square of what changed in the logits, as a share of their own; of a
    # language model, not as a share
    passed: bool  # it was taken: this model is made so


class EdgeModel(Record, frozen=True, kw_only=True):
    """What only an edge bundle has: the TFLite file and how true it is to the float model."""

    profile: Profile
    min_runtime: str  # the oldest TFLite runtime that has every op version used
    ops: dict[str, int]  # "FULLY_CONNECTED/12" → number of uses
    weight_dtypes: dict[str, int]  # dtype → bytes of constant tensors
    float_ops: dict[str, int]  # ops that compute in float → number of uses
    evaluation: dict[str, float]  # float against quantized, on the test split
    islands: tuple[str, ...] = ()  # of mixed_int8: the ops that stay float
    calibration: Calibration | None = None
    search: tuple[Attempt, ...] = ()  # in the order they were tried

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.min_runtime):
            raise ValueError(f"min_runtime {self.min_runtime!r} must be like 2.17.0")


class Manifest(Record, frozen=True, kw_only=True):
    """A bundle's description; `files` covers every other file of the bundle."""

    schema_version: int
    name: str
    version: int
    task: Task
    labels: tuple[str, ...]
    preprocess: Preprocess
    signatures: dict[str, Signature]
    metrics: dict[str, Metric]
    provenance: Provenance
    files: dict[str, str]  # relative POSIX path → SHA-256
    edge: EdgeModel | None = None
    generation: Generation | None = None

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"schema_version is {self.schema_version}, this program reads {SCHEMA_VERSION}"
            )
        check_name(self.name)
        if not 1 <= self.version < 1 << 63:  # an int64 on the wire
            raise ValueError(f"version {self.version} must be 1 to 2^63 - 1")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {list(self.labels)} repeat")
        for path, digest in self.files.items():
            check_relative(path)
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"files[{path!r}] is not a SHA-256: {digest!r}")


def check_name(name: str) -> None:
    """Raises ValueError unless `name` may name a model: a folder, a URL part, a metric label."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"model name {name!r} must be 1 to 63 of a-z, 0-9, '-' and '_', "
            "starting with a letter or digit"
        )


def check_relative(path: str) -> None:
    """Raises ValueError unless `path` is a plain relative POSIX path that stays inside."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and ".." not in parts and not path.startswith("/")
    if not path or not plain or "\\" in path or "\0" in path or ":" in path:
        raise ValueError(f"file name {path!r} must be a plain relative path")


def encode(manifest: Manifest) -> bytes:
    """The manifest as canonical JSON: sorted keys, two spaces, one newline at the end."""
    compact = msgspec.json.encode(manifest, order="deterministic")
    text = msgspec.json.format(compact, indent=2) + b"\n"
    decode(text, origin="new manifest")  # what we write, we must be able to read
    return text


def decode(data: bytes, origin: str) -> Manifest:
    """Reads a manifest.

    Args:
        data: JSON, UTF-8.
        origin: where it came from, for the message.

    Raises:
        ManifestError: names the origin, the field and what was expected.
    """
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{origin}: {error}. Publish the bundle again.") from error


def read(path: Path) -> Manifest:
    """Reads the manifest at `path`.

    Raises:
        ManifestError: it is missing or not valid.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}. Publish the bundle again.") from error
    return decode(data, origin=str(path))
