"""Laws of the runner: it answers as the published model, or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st

from bundle import golden
from bundle.errors import GoldenError, InputError, ManifestError
from bundle.manifest import Signature, TensorSpec, TextPreprocess
from bundle.preprocess import TextPreprocessor
from edge import package, runtime
from edge.errors import RuntimeUnfit
from edge.runner import EdgeRunner
from edge.runtime import Runtime

Rebuild = Callable[..., Path]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runner(bundle: Path) -> EdgeRunner:
    return EdgeRunner.open(bundle)


@pytest.fixture(scope="module")
def texts(published: Any) -> list[str]:
    """The test split."""
    from finetune.data import jsonl

    data = published.recipe.data
    return list(jsonl.read(data.test, data.labels).texts)


def test_it_answers_as_the_published_savedmodel(
    runner: EdgeRunner, published: Any, texts: list[str]
) -> None:
    import tensorflow as tf

    path = str(published.outcome.saved.path)
    serve = tf.saved_model.load(path).signatures["serving_default"]
    preprocessor = TextPreprocessor(
        published.outcome.saved.read("tokenizer.json"), runner.manifest.preprocess
    )
    tensors = {name: tf.constant(values) for name, values in preprocessor(texts).items()}
    expected = serve(**tensors)["logits"].numpy()
    found = np.stack([runner.logits(text) for text in texts])
    assert (found.argmax(-1) == expected.argmax(-1)).mean() >= 0.98
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_labels_come_with_scores_the_most_probable_first(
    runner: EdgeRunner, texts: list[str]
) -> None:
    for text in texts[:10]:
        first, second = runner.predict(text)
        assert {first.label, second.label} == {"negative", "positive"}
        assert first.score >= second.score
        assert first.score + second.score == pytest.approx(1)
        assert first.label == runner.manifest.labels[runner.logits(text).argmax()]


def test_it_learnt_what_it_was_taught(runner: EdgeRunner) -> None:
    assert runner.predict("the film was very good")[0].label == "positive"
    assert runner.predict("the film was very dull")[0].label == "negative"


def test_an_answer_does_not_depend_on_what_was_asked_before(
    runner: EdgeRunner, texts: list[str]
) -> None:
    alone = [runner.logits(text) for text in texts]
    for text, expected in zip(reversed(texts), reversed(alone), strict=True):
        np.testing.assert_array_equal(runner.logits(text), expected)


def test_of_many_inputs_a_wrong_one_has_its_error_and_the_others_their_answers(
    runner: EdgeRunner,
) -> None:
    good, wrong, other = runner.predict_all(iter(["a good film", " ", "awful"]))
    assert (good, other) == (runner.predict("a good film"), runner.predict("awful"))
    assert isinstance(wrong, InputError)


def test_threads_change_no_answer(runner: EdgeRunner, bundle: Path, texts: list[str]) -> None:
    other = EdgeRunner.open(bundle, threads=2)
    for text in texts[:10]:
        np.testing.assert_allclose(other.logits(text), runner.logits(text), atol=1e-5)


def test_what_was_verified_can_be_told(runner: EdgeRunner, bundle: Path) -> None:
    opened = package.read(bundle)
    proof = runner.verification
    assert (proof.files, proof.golden_examples) == (3, len(opened.golden.texts))
    assert 0 <= proof.golden_difference <= proof.golden_tolerance == opened.golden.tolerance
    assert runner.runtime.name == "ai-edge-litert"


@pytest.mark.parametrize(("words", "used"), [(1, 8), (6, 8), (7, 16), (14, 16), (50, 16)])
def test_the_length_of_a_text_picks_the_signature(bundle: Path, words: int, used: int) -> None:
    called: list[str] = []

    class Recording(Interpreter):
        def get_signature_runner(self, signature_key: str | None = None) -> Any:
            run = super().get_signature_runner(signature_key)

            def recorded(**inputs: Any) -> Any:
                called.append(f"{signature_key}: {inputs['input_ids'].shape}")
                return run(**inputs)

            return recorded

    recording = EdgeRunner(package.read(bundle), Runtime("ai-edge-litert", "2", Recording))
    called.clear()
    recording.predict(" ".join(["film"] * words))
    assert called == [f"tokens_{used}: (1, {used})"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "text: is empty"),
        (" \n", "text: is empty"),
        ("x" * 1001, "text: has 1001 characters, the limit is 1000"),
        ("\udcff", "text: has half a surrogate pair"),  # how Python passes on a bad argument
    ],
)
def test_a_text_that_breaks_a_limit_is_named(runner: EdgeRunner, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        runner.predict(text)
    assert len(runner.predict("still works")) == 2


@given(st.text(min_size=1, max_size=80).filter(str.strip))
def test_any_other_text_has_finite_scores(runner: EdgeRunner, text: str) -> None:
    assert sum(score.score for score in runner.predict(text)) == pytest.approx(1)


def test_a_model_that_answers_otherwise_than_published_is_refused(
    bundle: Path, rebuild: Rebuild
) -> None:
    examples = package.read(bundle).golden
    rows = tuple(tuple(value + 5 for value in row) for row in examples.logits)
    path = rebuild({"golden.json": golden.encode(msgspec.structs.replace(examples, logits=rows))})
    with pytest.raises(GoldenError, match=rf"{path.name}: answers .* golden input .* difference 5"):
        EdgeRunner.open(path)


def test_a_runtime_that_answers_with_no_number_is_refused(bundle: Path) -> None:
    with pytest.raises(GoldenError, match="difference nan"):
        EdgeRunner(package.read(bundle), answering(lambda logits: {"logits": logits * np.nan}))


def test_a_model_without_logits_is_refused(bundle: Path) -> None:
    with pytest.raises(ManifestError, match=r"the model gives \['scores'\], not logits"):
        EdgeRunner(package.read(bundle), answering(lambda logits: {"scores": logits}))


def answering(change: Callable[[Any], dict[str, Any]]) -> Runtime:
    """A runtime with another idea of what the model's ops mean."""

    class Other(Interpreter):
        def get_signature_runner(self, signature_key: str | None = None) -> Any:
            run = super().get_signature_runner(signature_key)
            return lambda **inputs: change(run(**inputs)["logits"])

    return Runtime("ai-edge-litert", "2", Other)


def test_a_bucket_without_a_signature_is_refused(rebuild: Rebuild) -> None:
    spec = TextPreprocess(buckets=(8, 16, 32), pad_id=0, max_characters=1000)
    with pytest.raises(ManifestError, match=r"no signature tokens_32 for inputs \[1, 32\]"):
        EdgeRunner.open(rebuild(preprocess=spec))


@pytest.mark.parametrize("shape", [(), (8,), (8, 1), (1, None), (2, 8), (1, 8, 1), (1, 1)])
def test_a_signature_of_another_shape_is_refused(
    bundle: Path, rebuild: Rebuild, shape: tuple[int | None, ...]
) -> None:
    signatures = package.read(bundle).manifest.signatures
    inputs = (TensorSpec(name="input_ids", dtype="int32", shape=shape),)
    odd = Signature(inputs=inputs, outputs=signatures["tokens_8"].outputs)
    path = rebuild(signatures={**signatures, "tokens_8": odd})
    with pytest.raises(ManifestError, match=r"no signature tokens_8 for inputs \[1, 8\]"):
        EdgeRunner.open(path)


def test_a_signature_that_the_model_lacks_is_refused(bundle: Path, rebuild: Rebuild) -> None:
    signatures = dict(package.read(bundle).manifest.signatures)
    path = rebuild(signatures={"other": signatures.pop("tokens_8"), **signatures})
    with pytest.raises(RuntimeUnfit, match="finds no signature 'other' in the model"):
        EdgeRunner.open(path)


def test_a_file_that_is_no_model_is_refused(rebuild: Rebuild) -> None:
    with pytest.raises(RuntimeUnfit, match="refuses the model"):
        EdgeRunner.open(rebuild({"model.tflite": b"not a model"}))


def test_a_file_that_is_no_tokenizer_is_refused(rebuild: Rebuild) -> None:
    with pytest.raises(ManifestError, match=r"tokenizer\.json: not a tokenizers file"):
        EdgeRunner.open(rebuild({"tokenizer.json": b"{}"}))


def test_it_runs_with_nothing_else_of_the_product_installed(bundle: Path) -> None:
    """On a device: no TensorFlow, no server, no training, and none of our other packages."""
    absent = [
        *("tensorflow", "tf_keras", "transformers", "huggingface_hub", "tensorflow_serving"),
        *("grpc", "aiohttp", "pydantic", "yaml", "gradio"),
        *("finetune", "serving", "tensorseek", "protos"),
    ]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        "from edge.runner import EdgeRunner\n"
        "print(EdgeRunner.open(sys.argv[1]).predict('a very good film')[0].label)"
    )
    command = [sys.executable, "-c", code, str(bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "positive\n"


def test_the_installed_runtime_is_found() -> None:
    assert runtime.find().interpreter is Interpreter
