"""Law: a published model of our family can write, on a server and on a device; no other can."""

from __future__ import annotations

import dataclasses
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow_serving.apis import prediction_log_pb2
from tokenizers import Tokenizer
from typer.testing import CliRunner

from bundle import archive, golden, manifest
from bundle.errors import InputError, ManifestError
from bundle.manifest import Generation
from bundle.preprocess import TextPreprocessor
from bundle.repository import ModelRepository
from edge import package
from edge.local import LocalServer
from edge.runner import EdgeRunner
from finetune import pipeline
from finetune.errors import ExportError, GateRefused, ModelError
from finetune.export import candidate as candidates
from finetune.export import edge_bundle, flatbuffer, generation, language_bundle, warmup
from finetune.export.candidate import Candidate
from finetune.export.language_gate import Quantized
from finetune.progress import Silent
from finetune.recipe import Recipe
from tensorseek.commands import edge

PROMPT = "the film"
FIXED = {"temperature": [0.0], "top_k": [0], "top_p": [1.0], "repetition_penalty": [1.0]}


@pytest.fixture(scope="module")
def writer_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The smallest sizes at which the converter makes int8 of 90% of the weights."""
    folder = tmp_path_factory.mktemp("writer")
    lines = ["the film was very good but the plot was awful", "ein schöner Film, größer als alle"]
    (folder / "train.txt").write_text(" ".join(lines * 6))
    (folder / "text.txt").write_text(" ".join([*lines[::-1], *lines, lines[0], *lines[::-1]] * 2))
    return Recipe.model_validate(
        {
            "name": "writer",
            "task": "text-generation",
            "scratch": {
                "decoder": "deepseek_v3",
                "layers": 2,
                "hidden": 96,
                "heads": 2,
                "experts": 2,
                "vocabulary": 300,
            },
            "data": {
                "train": str(folder / "train.txt"),
                **dict.fromkeys(("dev", "test"), str(folder / "text.txt")),
                "buckets": [8, 16],
                "batch_size": 4,
            },
            "optimizer": {"learning_rate": 0.01},
            "schedule": {"epochs": 2},
            "precision": "mixed_bfloat16",
            "edge": {"profiles": ["float32", "dynamic_int8"]},
        }
    )


@pytest.fixture(scope="module")
def outcome(writer_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Outcome:
    folder = tmp_path_factory.mktemp("written")
    return pipeline.run(writer_recipe, models=folder / "m", runs=folder / "r", progress=Silent())


@pytest.fixture(scope="module")
def served(outcome: pipeline.Outcome) -> Any:
    return tf.saved_model.load(str(outcome.saved.path)).signatures


@pytest.fixture(scope="module")
def runners(outcome: pipeline.Outcome) -> dict[str, EdgeRunner]:
    found = [EdgeRunner.open(path) for path in outcome.edge]
    return {runner.edge.profile: runner for runner in found}


def greedy(served: Any, ids: list[int], tokens: int) -> list[int]:
    """What the published model writes after a prompt."""
    given = {"input_ids": [ids], "attention_mask": [[1] * len(ids)], **FIXED, "seed": [0]}
    kinds = {"temperature": "float32", "top_p": "float32", "repetition_penalty": "float32"}
    inputs = {name: tf.constant(each, kinds.get(name, "int32")) for name, each in given.items()}
    answer = served["generate"](**inputs, max_new_tokens=tf.constant(tokens))
    return answer["tokens"].numpy()[0, : answer["lengths"].numpy()[0]].tolist()


def test_the_published_model_writes_as_its_manifest_says(
    outcome: pipeline.Outcome, served: Any
) -> None:
    manifest = outcome.saved.manifest
    assert manifest.generation == Generation(positions=24, end_ids=(2,))
    assert list(manifest.signatures) == ["serving_default", "generate", "prefill", "decode"]
    given: dict[str, Any] = {
        "input_ids": [[0, 5, 6]],
        "attention_mask": [[0, 1, 1]],
        "max_new_tokens": 5,
        "seed": [0],
        **FIXED,
    }
    inputs = {
        spec.name: tf.constant(np.asarray(given[spec.name], spec.dtype))
        for spec in manifest.signatures["generate"].inputs
    }
    found = served["generate"](**inputs)
    assert found["tokens"].shape == (1, 5)
    assert {spec.name for spec in manifest.signatures["generate"].outputs} == set(found)


def test_a_server_is_warmed_up_for_each_signature(outcome: pipeline.Outcome, served: Any) -> None:
    """TensorFlow Serving replays the file, so each of its requests must have an answer."""
    path = outcome.saved.path / "assets.extra" / warmup.FILE_NAME
    names = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        names.append(request.model_spec.signature_name)
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert served[names[-1]](**{name: tf.constant(each) for name, each in inputs.items()})
    assert names == ["serving_default", "serving_default", "generate", "prefill", "decode"]


def test_a_classifier_writes_nothing(candidate: Candidate) -> None:
    assert generation.functions(candidate) == {}
    assert generation.described(candidate) == {}
    assert generation.record(candidate) is None
    assert generation.requests(candidate) == {}


@pytest.mark.parametrize("tokens", [1, 2, 8, 9, 16, 17, 22])
def test_the_float_bundle_writes_what_the_published_model_writes(
    served: Any, outcome: pipeline.Outcome, runners: dict[str, EdgeRunner], tokens: int
) -> None:
    """From a prompt shorter than a bucket, as long, longer than the last; to the last position."""
    tokenizer = Tokenizer.from_buffer(outcome.saved.read("tokenizer.json"))
    ids = tokenizer.encode("the film was very good but the plot was awful " * 3).ids[:tokens]
    prompt = tokenizer.decode(ids)
    assert tokenizer.encode(prompt).ids == ids
    expected = greedy(served, ids, 24 - tokens)
    written = "".join(runners["float32"].generate(prompt))
    both = tokenizer.decode([*ids, *expected])
    assert written == both[len(prompt) :]


def test_both_bundles_are_true_to_the_float_model(
    outcome: pipeline.Outcome, runners: dict[str, EdgeRunner]
) -> None:
    assert runners.keys() == {"float32", "dynamic_int8"}
    exact, rounded = (runners[name].edge.evaluation for name in ("float32", "dynamic_int8"))
    perplexity = outcome.saved.manifest.metrics["perplexity"].value
    for figures in (exact, rounded):
        assert figures["float_perplexity"] == pytest.approx(perplexity, rel=1e-4)
        assert figures["rise_low"] <= figures["rise"] <= figures["rise_high"]
        assert {"p50_ms_decode", "p50_ms_prefill_8", "p50_ms_prefill_16"} <= figures.keys()
    assert exact["perplexity"] == pytest.approx(perplexity, rel=1e-4)
    assert exact["agreement"] == 1.0
    assert 0 < abs(rounded["rise"]) <= 0.02
    assert rounded["agreement"] >= 0.9
    assert runners["dynamic_int8"].edge.weight_dtypes["int8"] > 0
    assert rounded["size_bytes"] < exact["size_bytes"] / 2


def test_a_language_bundle_tells_how_to_ask_its_model(runners: dict[str, EdgeRunner]) -> None:
    found = runners["float32"].manifest
    assert found.generation == Generation(positions=24, end_ids=(2,))
    assert sorted(found.signatures) == ["decode", "prefill_16", "prefill_8"]
    shapes = {
        name: {spec.name: (spec.dtype, spec.shape) for spec in one.inputs + one.outputs}
        for name, one in found.signatures.items()
    }
    width = 2 * (24 + 24)
    assert shapes["prefill_8"] == {
        "input_ids": ("int32", (1, 8)),
        "cache": ("float32", (1, 8, width)),
    }
    vocabulary = shapes["decode"].pop("logits")[1][1]
    assert vocabulary == len(golden.decode(_golden(runners["float32"]), "it").logits[0])
    assert shapes["decode"] == {
        "token": ("int32", (1,)),
        "position": ("int32", (1,)),
        "cache": ("float32", (1, 24, width)),
        "entry": ("float32", (1, width)),
    }


def _golden(runner: EdgeRunner) -> bytes:
    path = Path(str(runner._path))
    return archive.unpack(path)[golden.FILE_NAME]


def test_a_seed_draws_the_same_text_again(runners: dict[str, EdgeRunner]) -> None:
    def written(seed: int) -> str:
        drawn = runners["dynamic_int8"].generate(PROMPT, temperature=2.0, top_k=50, seed=seed)
        return "".join(drawn)

    assert written(1) == written(1)
    assert len({written(seed) for seed in range(4)}) > 1


def test_a_text_ends_where_it_is_told_to(runners: dict[str, EdgeRunner]) -> None:
    runner = runners["float32"]
    whole = "".join(runner.generate(PROMPT))
    some = "".join(runner.generate(PROMPT, max_new_tokens=3))
    assert whole.startswith(some)
    assert len(some) < len(whole)
    stop = whole[4:7]
    assert "".join(runner.generate(PROMPT, stop=(stop,))) == whole[: whole.index(stop)]


def changed(path: Path, folder: Path, **fields: Any) -> Path:
    """A bundle whose manifest says something else."""
    files = archive.unpack(path)
    found = manifest.decode(files[manifest.FILE_NAME], "it")
    files[manifest.FILE_NAME] = manifest.encode(msgspec.structs.replace(found, **fields))
    (folder / path.name).write_bytes(archive.pack(files))
    return folder / path.name


def test_a_bundle_that_can_not_write_as_it_says_is_refused(
    outcome: pipeline.Outcome, runners: dict[str, EdgeRunner], tmp_path: Path
) -> None:
    path, known = outcome.edge[0], runners["dynamic_int8"].manifest.signatures
    missing = {name: each for name, each in known.items() if name != "prefill_8"}
    with pytest.raises(ManifestError, match=r"signatures: has no prefill_8; publish it again"):
        EdgeRunner.open(changed(path, tmp_path, signatures=missing))
    with pytest.raises(ManifestError, match="have no decode with a cache of 25 columns"):
        EdgeRunner.open(changed(path, tmp_path, generation=Generation(positions=25, end_ids=())))
    missing = {name: each for name, each in known.items() if name != "decode"}
    with pytest.raises(ManifestError, match="have no decode that gives logits"):
        EdgeRunner.open(changed(path, tmp_path, signatures=missing))
    with pytest.raises(ManifestError, match="not one logit for each of the 0 labels"):
        EdgeRunner.open(changed(path, tmp_path, generation=None))


def test_the_command_writes_as_the_runner(
    outcome: pipeline.Outcome, runners: dict[str, EdgeRunner], published: Any
) -> None:
    path = str(next(path for path in outcome.edge if "float32" in path.name))
    expected = "".join(runners["float32"].generate(PROMPT, max_new_tokens=4))
    ask = ["run", path, PROMPT, "--max-new-tokens", "4"]
    assert CliRunner().invoke(edge.app, ask).output == f"{expected}\n"
    answer = {"input": PROMPT, "text": expected}
    assert json.loads(CliRunner().invoke(edge.app, [*ask, "--json"]).output) == answer
    lines = f'{json.dumps({"text": PROMPT})}\n{{"text": ""}}\n'
    piped = ["run", path, "--lines", "--max-new-tokens", "4"]
    first, second = CliRunner().invoke(edge.app, piped, input=lines).output.splitlines()
    assert json.loads(first) == answer
    assert json.loads(second)["error"].startswith("text: is empty")
    classifier = str(published.outcome.edge[0])
    refused = CliRunner().invoke(edge.app, ["run", classifier, "a film", "--top-k", "4"])
    assert refused.exit_code == 2
    assert "tiny writes no text: leave out --top-k" in refused.output


@pytest.mark.parametrize(
    ("prompt", "settings", "problem"),
    [
        ("", {}, "text: is empty"),
        ("film " * 30, {}, "prompt: has .* tokens; send 1 to 23"),
        (PROMPT, {"temperature": -1.0}, "temperature: -1.0 must be 0 or more"),
        (PROMPT, {"top_p": 0.0}, "top_p: 0.0 must be above 0"),
    ],
)
def test_what_a_model_can_not_write_is_named(
    runners: dict[str, EdgeRunner], prompt: str, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        runners["float32"].generate(prompt, **settings)


def test_a_writer_does_not_classify_and_a_classifier_does_not_write(
    runners: dict[str, EdgeRunner], published: Any
) -> None:
    with pytest.raises(InputError, match="this model writes; use generate"):
        runners["float32"].predict(PROMPT)
    with pytest.raises(InputError, match="this model classifies; use predict"):
        EdgeRunner.open(published.outcome.edge[0]).generate(PROMPT)


def test_a_bundle_judged_by_other_gates_is_made_again(
    outcome: pipeline.Outcome, writer_recipe: Recipe
) -> None:
    gates = writer_recipe.edge
    strict = gates.language.model_copy(update={"max_rise": 0.001})
    other = writer_recipe.model_copy(update={"edge": gates.model_copy(update={"language": strict})})
    for path in outcome.edge:
        assert edge_bundle.is_current(path, outcome.saved, writer_recipe)
        assert not edge_bundle.is_current(path, outcome.saved, other)


@pytest.fixture(scope="module")
def writer(outcome: pipeline.Outcome) -> Candidate:
    return candidates.of_version(outcome.saved, Silent())


def limited(writer: Candidate, **limits: float) -> Candidate:
    gates = writer.recipe.edge
    own = gates.language.model_copy(update=limits)
    recipe = writer.recipe.model_copy(update={"edge": gates.model_copy(update={"language": own})})
    return dataclasses.replace(writer, recipe=recipe)


def test_static_int8_keeps_in_float_what_costs_most(writer: Candidate) -> None:
    lenient = limited(writer, max_rise=1.0, min_agreement=0.3)
    made = language_bundle.make(lenient, "mixed_int8", "it", Silent())
    (attempt,) = made.attempts
    assert attempt.step.startswith("fitted, float ")
    assert attempt.passed
    assert made.islands
    assert made.calibration is not None
    assert 0 < made.calibration.examples <= 100
    found = flatbuffer.inspect(made.model)
    assert found.int8_ops
    flatbuffer.check_profile(found, "mixed_int8")


def test_static_int8_that_keeps_no_limit_is_refused_with_all_that_was_tried(
    writer: Candidate,
) -> None:
    with pytest.raises(GateRefused, match="no step keeps") as refused:
        language_bundle.make(limited(writer, min_agreement=1.0), "full_int8", "it", Silent())
    assert [line.split()[-1] for line in str(refused.value).splitlines()[2:]] == ["plain", "fitted"]


@pytest.fixture(scope="module")
def strict(writer: Candidate, outcome: pipeline.Outcome) -> EdgeRunner:
    """Of a bundle without any float."""
    lenient = limited(writer, max_rise=1.0, min_agreement=0.3)
    repository = ModelRepository(outcome.saved.path.parents[1])
    return EdgeRunner.open(
        edge_bundle.publish(repository, outcome.saved, lenient, "full_int8", Silent())
    )


def test_a_strict_bundle_remembers_integers_and_writes(strict: EdgeRunner) -> None:
    assert (strict.edge.float_ops, strict.edge.islands) == ({}, ())
    signatures = strict.manifest.signatures
    (given,) = signatures["prefill_8"].outputs
    (taken,) = (each for each in signatures["decode"].inputs if each.name == "cache")
    (entry,) = (each for each in signatures["decode"].outputs if each.name == "entry")
    assert {each.dtype for each in (given, taken, entry)} == {"int8"}
    assert given.quantization == taken.quantization == entry.quantization
    assert "".join(strict.generate(PROMPT, max_new_tokens=4))


def test_a_classifier_has_no_language_bundle(candidate: Candidate) -> None:
    with pytest.raises(ExportError, match="only a language model of the DeepSeek family"):
        language_bundle.make(candidate, "float32", "it", Silent())


def test_a_model_of_another_family_is_refused_before_it_is_trained(
    writer_recipe: Recipe,
) -> None:
    scratch = writer_recipe.scratch
    assert scratch is not None
    other = scratch.model_copy(update={"decoder": "gpt2"})
    recipe = writer_recipe.model_copy(update={"scratch": other})
    with pytest.raises(ModelError, match=r"edge\.profiles: scratch can't write on a device"):
        pipeline.tasks.create(recipe)


@pytest.fixture(scope="module")
def local(runners: dict[str, EdgeRunner]) -> Iterator[LocalServer]:
    server = LocalServer(runners["float32"], 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join()


def ask(server: LocalServer, **wish: Any) -> tuple[int, list[dict[str, Any]], Any]:
    """Status, lines and headers of what an app of the device gets."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/v1/models/writer:generate", json.dumps(wish))
    answer = connection.getresponse()
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    return answer.status, lines, answer.headers


def test_an_app_reads_the_runner_s_text_line_by_line(
    local: LocalServer, runners: dict[str, EdgeRunner]
) -> None:
    settings = {"max_new_tokens": 6, "temperature": 0.9, "seed": 3}
    status, lines, _ = ask(local, prompt=PROMPT, **settings)
    assert (status, lines[-1]) == (200, {"done": True})
    pieces = list(runners["float32"].generate(PROMPT, **settings))
    assert [line["text"] for line in lines[:-1]] == pieces


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "body: Object missing required field `prompt`"),
        ({"prompt": " "}, "text: is empty"),
        ({"prompt": PROMPT, "top_p": 2}, "top_p: 2.0 must be above 0"),
        ({"prompt": PROMPT, "beams": 2}, "body: Object contains unknown field `beams`"),
        ({"prompt": "film " * 400}, "prompt: has "),
    ],
)
def test_a_wrong_wish_is_refused_before_the_first_line(
    local: LocalServer, wish: dict[str, Any], message: str
) -> None:
    status, (line,), _ = ask(local, **wish)
    assert status == 400
    assert line["error"].startswith(message)


def test_a_second_text_is_told_to_come_again_until_the_first_ends(local: LocalServer) -> None:
    texts = local._server.RequestHandlerClass.served
    lines = texts.answer(json.dumps({"prompt": PROMPT}).encode())
    status, (line,), headers = ask(local, prompt=PROMPT)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert line["error"].startswith("busy: another text is being written")
    lines.close()  # as when its caller goes away
    assert ask(local, prompt=PROMPT, max_new_tokens=1)[0] == 200


def test_a_reader_written_from_the_page_writes_as_ours(
    strict: EdgeRunner, runners: dict[str, EdgeRunner]
) -> None:
    """As docs/edge-bundle.md says, with whatever dtype the cache has."""
    for runner in (strict, runners["float32"]):
        files = archive.unpack(runner._path)
        interpreter = Interpreter(model_content=files["model.tflite"])
        decode = interpreter.get_signature_runner("decode")
        tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        ids = tokenizer.encode(PROMPT).ids
        taken = decode.get_input_details()["cache"]
        cache = np.zeros(taken["shape"], taken["dtype"])
        first = min(len(ids) - 1, 8)
        assert first > 0
        padded = np.pad(ids[:first], (0, 8 - first))[None].astype(np.int32)
        given = interpreter.get_signature_runner("prefill_8")(input_ids=padded)["cache"]
        cache[:, :first] = given[:, :first]
        written: list[int] = []
        for place in range(first, len(ids) + 4):
            told = decode(
                token=np.asarray([[*ids, *written][place]], np.int32),
                position=np.asarray([place], np.int32),
                cache=cache,
            )
            cache[:, place] = told["entry"]
            if place >= len(ids) - 1:
                written.append(int(told["logits"].argmax()))
        ours = "".join(runner.generate(PROMPT, max_new_tokens=4))
        assert tokenizer.decode([*ids, *written[:4]]) == PROMPT + ours


@pytest.mark.parametrize("profile", ["dynamic_int8", "full_int8"])
def test_other_kernels_change_the_golden_answers_by_half_of_what_is_allowed(
    strict: EdgeRunner, runners: dict[str, EdgeRunner], profile: str
) -> None:
    """So that a device without LiteRT's delegate takes a right bundle."""
    runner = strict if profile == "full_int8" else runners[profile]
    opened = package.read(runner._path)
    assert isinstance(opened.preprocessor, TextPreprocessor)
    plain = Quantized(bytes(opened.model), opened.preprocessor.spec.buckets, delegated=False)
    ids = opened.preprocessor.encode(list(opened.golden.texts))
    changed = np.abs(np.stack([plain.last(each) for each in ids]) - opened.golden.logits)
    assert 0 < changed.max() <= opened.golden.tolerance / 2
