"""Tiny real things that several test files share."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import settings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import finetune  # noqa: F401 (chooses Keras 2, before any test imports TensorFlow)
from bundle import golden
from bundle.manifest import (
    EDGE_MODEL_FILE,
    EdgeModel,
    Manifest,
    Provenance,
    Signature,
    TensorSpec,
    TextPreprocess,
)
from bundle.preprocess import TextPreprocessor
from bundle.repository import EXTRA, ModelRepository, SavedBundle

WORDS = tuple(
    "a the film is was very good great fine bad awful dull not and but plot actor".split()
)
MARKS = (".", ",", "!")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = (*SPECIAL, *WORDS, *MARKS)
LABELS = ("negative", "positive")

PublishTiny = Callable[..., SavedBundle]

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

if TYPE_CHECKING:  # the tests of the roles without TensorFlow run this file too
    from finetune.pipeline import Outcome
    from finetune.recipe import Recipe

TinyRecipe = Callable[..., "Recipe"]


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """A word-level tokenizer with BERT's special tokens."""
    vocabulary = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode()


@pytest.fixture(scope="session")
def tiny_spec() -> TextPreprocess:
    return TextPreprocess(buckets=(8, 16), pad_id=0, max_characters=1000)


@pytest.fixture(scope="session")
def tiny_manifest(tiny_spec: TextPreprocess) -> Manifest:
    """A valid manifest of a two-label text classifier."""
    tokens = [
        TensorSpec(name=name, dtype="int32", shape=(None, None))
        for name in ("input_ids", "attention_mask")
    ]
    logits = TensorSpec(name="logits", dtype="float32", shape=(None, 2))
    provenance = Provenance(
        recipe={},
        recipe_sha256="0" * 64,
        base_model="tiny",
        base_model_sha256="0" * 64,
        data_sha256="0" * 64,
        packages={},
        created="2026-11-24T00:00:00Z",
    )
    return Manifest(
        schema_version=1,
        name="tiny",
        version=1,
        task="text-classification",
        labels=LABELS,
        preprocess=tiny_spec,
        signatures={"serving_default": Signature(inputs=tuple(tokens), outputs=(logits,))},
        metrics={},
        provenance=provenance,
        files={},
    )


def tiny_weights(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Each word's say on each label: float32 [vocabulary, 2]."""
    return np.random.default_rng(seed).normal(size=(len(VOCABULARY), 2)).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_answer(
    tokenizer_json: bytes, tiny_spec: TextPreprocess
) -> Callable[..., np.ndarray[Any, np.dtype[np.float32]]]:
    """What the tiny model of a seed must answer to a text, computed with NumPy: logits [2]."""
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)

    def answer(text: str, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.asarray(tiny_weights(seed)[preprocessor.encode([text])[0]].sum(0), np.float32)

    return answer


@pytest.fixture(scope="session")
def publish_tiny(
    tokenizer_json: bytes, tiny_manifest: Manifest, tiny_answer: Callable[..., Any]
) -> PublishTiny:
    """Publishes a real SavedModel: logits = the sum of the weights of a text's tokens."""

    def publish(root: Path, name: str = "tiny", seed: int = 0) -> SavedBundle:
        import tensorflow as tf

        class Tiny(tf.Module):
            def __init__(self) -> None:
                self.weights = tf.Variable(tiny_weights(seed))

            @tf.function(
                input_signature=[
                    tf.TensorSpec([None, None], tf.int32, name="input_ids"),
                    tf.TensorSpec([None, None], tf.int32, name="attention_mask"),
                ]
            )
            def serve(self, input_ids: Any, attention_mask: Any) -> Any:
                rows = tf.gather(self.weights, input_ids)
                mask = tf.cast(attention_mask, tf.float32)[:, :, None]
                return {"logits": tf.reduce_sum(rows * mask, axis=1)}

        texts = ["a very good film", "awful , dull plot !"]
        repository = ModelRepository(root)
        with repository.staging() as staged:
            model = Tiny()
            tf.saved_model.save(model, str(staged), signatures={"serving_default": model.serve})
            extra = staged / EXTRA
            extra.mkdir()
            (extra / "tokenizer.json").write_bytes(tokenizer_json)
            logits = np.stack([tiny_answer(text, seed) for text in texts])
            (extra / golden.FILE_NAME).write_bytes(golden.encode(golden.make(texts, logits, 1e-4)))
            return repository.publish(staged, msgspec.structs.replace(tiny_manifest, name=name))

    return publish


@pytest.fixture(scope="session")
def publish_tiny_edge(tokenizer_json: bytes) -> Callable[..., Path]:
    """Publishes a real float32 edge bundle of a version that `publish_tiny` made."""

    def publish(saved: SavedBundle, seed: int = 0) -> Path:
        from finetune.export import flatbuffer

        spec = saved.manifest.preprocess
        model = _tiny_tflite(tiny_weights(seed), spec.buckets)
        found = flatbuffer.inspect(model)
        edge = EdgeModel(
            profile="float32",
            min_runtime=found.min_runtime,
            ops=found.ops,
            weight_dtypes=found.weight_dtypes,
            float_ops=found.float_ops,
            evaluation={},
        )
        (served,) = saved.manifest.signatures.values()
        signatures = {
            f"tokens_{tokens}": Signature(
                inputs=tuple(
                    TensorSpec(name=spec.name, dtype="int32", shape=(1, tokens))
                    for spec in served.inputs
                ),
                outputs=(TensorSpec(name="logits", dtype="float32", shape=(1, 2)),),
            )
            for tokens in spec.buckets
        }
        draft = msgspec.structs.replace(saved.manifest, edge=edge, signatures=signatures)
        files = {
            EDGE_MODEL_FILE: model,
            spec.tokenizer: tokenizer_json,
            golden.FILE_NAME: saved.read(golden.FILE_NAME),
        }
        return ModelRepository(saved.path.parents[1]).publish_edge(draft, files)

    return publish


def _tiny_tflite(weights: np.ndarray[Any, np.dtype[np.float32]], buckets: Sequence[int]) -> bytes:
    import tensorflow as tf

    def serve(input_ids: Any, attention_mask: Any) -> Any:
        mask = tf.cast(attention_mask, tf.float32)[:, :, None]
        return {"logits": tf.reduce_sum(tf.gather(weights, input_ids) * mask, axis=1)}

    functions = {
        f"tokens_{tokens}": tf.function(
            serve,
            input_signature=[
                tf.TensorSpec([1, tokens], tf.int32, name=name)
                for name in ("input_ids", "attention_mask")
            ],
        )
        for tokens in buckets
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, list(functions))
        return bytes(converter.convert())


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: bytes) -> Path:
    """A pretrained model's folder: a random one-layer BERT over the words above.

    Its sizes are the smallest at which the converter finds 90% of the weights worth an int8.
    """
    import tensorflow as tf
    import tf_keras
    from transformers import BertConfig, TFBertForSequenceClassification

    folder = tmp_path_factory.mktemp("base")
    tf_keras.utils.set_random_seed(0)
    model = TFBertForSequenceClassification(
        BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=384,
            max_position_embeddings=16,
            initializer_range=0.1,  # tells the words apart, as pretraining would
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    model(tf.ones([1, 1], tf.int32))  # makes the weights
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, dev and test.jsonl, where one word decides the label.

    Four labels of the test part are wrong, so that no model gets all of it right.
    """
    from finetune.data import jsonl

    folder = tmp_path_factory.mktemp("data")
    rows = list(_tiny_rows(320))
    rows[-4:] = [(text, LABELS[label == LABELS[0]]) for text, label in rows[-4:]]
    for name, part in (("train", rows[:192]), ("dev", rows[192:224]), ("test", rows[224:])):
        jsonl.write(folder / f"{name}.jsonl", part)
    return folder


def _tiny_rows(count: int) -> Iterator[tuple[str, str]]:
    generator = random.Random(0)  # noqa: S311 (no secret)
    decisive = {"positive": ("good", "great", "fine"), "negative": ("bad", "awful", "dull")}
    neutral = ("a", "the", "film", "is", "was", "very", "and", "but", "plot", "actor", *MARKS)
    for index in range(count):
        label = LABELS[index % 2]
        words = generator.choices(neutral, k=generator.randint(1, 13))
        words.insert(generator.randint(0, len(words)), generator.choice(decisive[label]))
        yield " ".join(words), label


@pytest.fixture(scope="session")
def tiny_recipe(
    tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> TinyRecipe:
    """Makes a recipe over the tiny model and data; arguments are as of `--set`."""
    import yaml

    from finetune import recipe

    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    content = {
        "name": "tiny",
        "task": "text-classification",
        "base_model": str(tiny_base),
        "data": {
            **{name: str(tiny_data / f"{name}.jsonl") for name in ("train", "dev", "test")},
            "labels": list(LABELS),
            "buckets": [8, 16],
            "max_characters": 1000,
            "batch_size": 8,
        },
        "optimizer": {"learning_rate": 0.005},
        "schedule": {"epochs": 5},
        "precision": "float32",
    }
    path.write_text(yaml.safe_dump(content))
    return lambda *overrides: recipe.load(path, overrides)


@dataclass(frozen=True)
class Published:
    """A whole fine-tuning job that was run."""

    recipe: Recipe
    models: Path
    runs: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def published(tiny_recipe: TinyRecipe, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The tiny recipe, trained, published, quantized. Copy what a test changes."""
    from finetune import pipeline
    from finetune.progress import Silent

    folder = tmp_path_factory.mktemp("published")
    models, runs = folder / "models", folder / "runs"
    recipe = tiny_recipe()
    outcome = pipeline.run(recipe, models=models, runs=runs, progress=Silent())
    return Published(recipe, models, runs, outcome)


@pytest.fixture
def peak_growth() -> Callable[[], Callable[[], int]]:
    """Begins to watch this process's memory; what that gives says by how many bytes it rose."""

    def highest_bytes() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def begin() -> Callable[[], int]:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the most that it ever took
        before = highest_bytes()
        return lambda: highest_bytes() - before

    return begin


@pytest.fixture(scope="session")
def self_signed() -> Callable[[], tuple[str, str]]:
    """Makes a key, and a certificate of localhost that it signed itself, both as PEM."""
    return make_certificate


def make_certificate() -> tuple[str, str]:
    """A key, and a certificate of localhost, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, lock = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, form, lock).decode(), certificate.public_bytes(pem).decode()
