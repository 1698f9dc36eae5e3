"""Law: a SavedModel answers what TensorFlow answers, is warm before it is asked, and is freed."""

from __future__ import annotations

import dataclasses
import gc
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import BundleError
from serving.backend import loader, memory
from serving.backend.batcher import Batching
from serving.backend.config import BackendConfig, Loading
from serving.backend.servable import Servable
from serving.backend.signature import Signature, TensorSpec
from serving.errors import InvalidArgument
from serving.tensors import encode_tfs

Publish = Callable[..., Path]
Request = Callable[..., Any]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> BackendConfig:
    return BackendConfig(models=tmp_path_factory.mktemp("models"), batching=Batching(max_rows=8))


@pytest.fixture(scope="module")
def probe(config: BackendConfig, publish_probe: Publish) -> Servable:
    return loader.load(publish_probe(config.models, 1), config)


def predict(servable: Servable, signature: str = "", **inputs: Any) -> dict[str, Any]:
    protos = {name: encode_tfs(np.asarray(array)) for name, array in inputs.items()}
    return dict(servable.predict(signature, protos))


def floats(*values: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(values, np.float32)


def test_outputs_are_numpy_in_the_models_own_dtypes(probe: Servable) -> None:
    outputs = predict(probe, x=floats([1, 2], [3, 4]))
    np.testing.assert_array_equal(outputs["y"], floats([2, 4], [6, 8]))
    assert outputs["rows"].tolist() == [2, 2]
    assert {name: array.dtype.name for name, array in outputs.items()} == {
        "y": "float32",
        "rows": "int32",
        "runs": "int32",
    }


def test_scalars_and_strings_come_out_as_they_are(probe: Servable) -> None:
    total = predict(probe, "total", x=floats([1, 2]))["total"]
    assert (total.shape, float(total)) == ((), 3.0)
    text = predict(probe, "upper", text=np.array([b"a", b"\xc3\xa9\0b"], object))["text"]
    assert text.tolist() == [b"A", b"\xc3\xa9\0B"]


def test_no_rows_give_no_rows(probe: Servable) -> None:
    assert predict(probe, x=np.zeros((0, 3), np.float32))["y"].shape == (0, 3)


def test_more_rows_than_a_run_may_merge_are_answered_in_one_run(probe: Servable) -> None:
    outputs = predict(probe, x=np.ones((20, 1), np.float32))
    assert outputs["rows"].tolist() == [20] * 20


def test_an_unknown_signature_is_refused_with_those_there_are(probe: Servable) -> None:
    known = "faulty, other_rows, pick, serving_default, slow, total, upper"
    with pytest.raises(InvalidArgument, match=f"signature_name: 'no' is not there; .* {known}"):
        predict(probe, "no", x=floats([1]))


def test_values_the_model_refuses_are_the_callers_fault_without_the_graphs_names(
    probe: Servable,
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        predict(probe, "pick", ids=np.array([0, 7], np.int32))
    assert str(caught.value) == (
        "inputs: the model can't compute with them: indices[1] = 7 is not in [0, 4)"
    )


def test_a_neighbours_bad_values_fail_nobody_else(probe: Servable) -> None:
    start = threading.Barrier(8)

    def pick(caller: int) -> Any:
        start.wait()
        for _ in range(20):
            if caller == 0:
                with pytest.raises(InvalidArgument, match=r"= 99 is not in"):
                    predict(probe, "pick", ids=np.array([99], np.int32))
            else:
                (value,) = predict(probe, "pick", ids=np.array([caller % 4], np.int32))["y"]
                assert value == caller % 4 + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pick, range(8)))


def test_an_output_that_is_not_per_row_after_all_is_still_right_for_each(probe: Servable) -> None:
    def repeat(value: int) -> list[float]:
        answer: list[float] = predict(probe, "other_rows", x=floats(value))["y"].tolist()
        return answer

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(repeat, range(64))) == [[value, value] for value in range(64)]


def test_the_stored_signatures_are_kept_as_they_are(probe: Servable) -> None:
    definition = probe.definitions["serving_default"]
    assert definition.method_name == "tensorflow/serving/predict"
    assert set(definition.outputs) == {"y", "rows", "runs"}


def test_a_model_that_was_not_made_for_serving_is_refused(
    config: BackendConfig, publish_probe: Publish
) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    def untag(path: Path) -> None:
        file = path / "saved_model.pb"
        stored = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        stored.meta_graphs[0].meta_info_def.tags[:] = ["train"]
        file.write_bytes(stored.SerializeToString())

    with pytest.raises(BundleError, match="no graph is tagged 'serve'"):
        loader.load(publish_probe(config.models, 5, spoil=untag), config)


def test_a_signature_with_a_tensor_that_can_not_be_sent_is_left_out(
    config: BackendConfig, tmp_path: Path
) -> None:
    import tensorflow as tf

    class Complex(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.complex64, name="x")])
        def turn(self, x: Any) -> Any:
            return {"y": -x}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def negate(self, x: Any) -> Any:
            return {"y": -x}

    model = Complex()
    signatures = {"turn": model.turn, "serving_default": model.negate}
    tf.saved_model.save(model, str(tmp_path), signatures)
    servable = loader.load(tmp_path, config)
    assert predict(servable, x=floats(1))["y"].tolist() == [-1]
    with pytest.raises(InvalidArgument, match="'turn' is not there"):
        predict(servable, "turn", x=floats(1))


def test_a_model_of_tensorflow_1_is_served_too(config: BackendConfig, tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    path = tmp_path / "v1"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        weight = v1.get_variable("weight", initializer=0.5)
        y = weight * x + 2.0
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})
    outputs = predict(loader.load(path, config), x=floats(1, 2, 5))
    assert outputs["y"].tolist() == [2.5, 3.0, 4.5]


def test_an_output_that_is_an_input_comes_back(config: BackendConfig, tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    path = tmp_path / "same"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"x": x, "y": 2.0 * x})
    turned = np.asfortranarray(floats([1, 2], [3, 4]))  # memory in another order
    outputs = loader.load(path, config).compute("", {"x": turned})
    assert outputs["x"].tolist() == [[1, 2], [3, 4]]
    assert outputs["y"].tolist() == [[2, 4], [6, 8]]


def test_a_table_is_filled_before_the_first_call(config: BackendConfig, tmp_path: Path) -> None:
    import tensorflow as tf

    class Lookup(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            words = tf.lookup.KeyValueTensorInitializer([b"a", b"b"], [1, 2])
            self.table = tf.lookup.StaticHashTable(words, default_value=-1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def find(self, word: Any) -> Any:
            return {"index": self.table.lookup(word)}

    model = Lookup()
    tf.saved_model.save(model, str(tmp_path), {"serving_default": model.find})
    servable = loader.load(tmp_path, config)
    words = np.array([b"b", b"z"], object)
    assert predict(servable, word=words)["index"].tolist() == [2, -1]


def test_a_model_saved_under_a_strategy_is_served_without_one(
    config: BackendConfig, tmp_path: Path
) -> None:
    import tensorflow as tf

    class Scale(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(3.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": self.weight * x}

    with tf.distribute.MirroredStrategy(["cpu:0"]).scope():
        model = Scale()
        tf.saved_model.save(model, str(tmp_path), {"serving_default": model.serve})
    assert predict(loader.load(tmp_path, config), x=floats(2))["y"].tolist() == [6]


def test_a_keras_model_is_served(config: BackendConfig, tmp_path: Path) -> None:
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((2,), name="x")])
    model.add(tf_keras.layers.Dense(1, kernel_initializer="ones", name="y"))
    model.save(tmp_path, save_format="tf")
    assert predict(loader.load(tmp_path, config), x=floats([1, 2]))["y"].tolist() == [[3]]


def test_an_old_model_has_variables_without_resources_and_tables_from_files(
    config: BackendConfig, tmp_path: Path
) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    with tf.Graph().as_default(), v1.Session() as session:
        file = tf.lookup.TextFileInitializer(
            str(words),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        word = v1.placeholder(tf.string, [None])
        index = tf.lookup.StaticHashTable(file, -1).lookup(word)
        weight = v1.Variable([10.0, 20.0], use_resource=False)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(tmp_path / "saved"))
        utils = v1.saved_model.signature_def_utils
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": utils.predict_signature_def(
                    {"word": word}, {"y": tf.gather(weight, index)}
                )
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    words.unlink()
    servable = loader.load(tmp_path / "saved", config)
    assert predict(servable, word=np.array([b"b", b"a"], object))["y"].tolist() == [20, 10]


def test_a_version_that_nobody_holds_is_freed_with_its_session(
    config: BackendConfig, publish_probe: Publish
) -> None:
    servable = loader.load(publish_probe(config.models, 6), config)
    predict(servable, x=floats([1]))
    session = weakref.ref(servable._functions["serving_default"]._run._run._run._session)
    assert session() is not None
    del servable
    gc.collect()
    assert session() is None


@pytest.mark.parametrize(
    ("loading", "outputs", "threads"),
    [
        (Loading(), (None, 2), (max(1, (os.cpu_count() or 1) // 2), -1)),
        (Loading(), (), (0, 0)),  # its calls never meet: each has the whole machine
        (Loading(intra_op_threads=0, inter_op_threads=0), (None, 2), (0, 0)),
        (Loading(intra_op_threads=3), (None, 2), (3, -1)),
    ],
)
def test_runs_that_go_on_at_once_share_out_the_cores(
    tmp_path: Path, loading: Loading, outputs: tuple[int | None, ...], threads: tuple[int, int]
) -> None:
    signature = Signature(
        name="s",
        inputs={"x": TensorSpec(dtype=1, shape=(None, None))},
        outputs={"y": TensorSpec(dtype=1, shape=outputs)},
    )
    options = loader._options(BackendConfig(models=tmp_path, loading=loading), [signature])
    found = (options.intra_op_parallelism_threads, options.inter_op_parallelism_threads)
    assert found == threads


def test_thirty_loads_take_no_more_memory_than_ten(config: BackendConfig, tmp_path: Path) -> None:
    """The memory of a version is there for the next one: none is left over."""
    import tensorflow as tf

    class Heavy(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(tf.ones([1024, 1024]))

        @tf.function(input_signature=[tf.TensorSpec([None, 1024], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x @ self.weight}

    model = Heavy()
    tf.saved_model.save(model, str(tmp_path), {"serving_default": model.serve})

    def cycle() -> int:
        predict(loader.load(tmp_path, config), x=np.ones((1, 1024), np.float32))
        memory.give_back()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    size_bytes = 4 << 20
    gc.collect()
    gc.freeze()  # the tests' own objects, which would cost most of the time
    first = max(cycle() for _ in range(10))  # until what others left behind is filled up
    last = [cycle() for _ in range(20)][-1]
    gc.unfreeze()
    assert last < first + 10 * size_bytes  # half of what twenty left over would take


@pytest.fixture
def patient(config: BackendConfig, publish_probe: Publish) -> Servable:
    """A model that waits for more rows, so that a test can count on which ones meet."""
    patient = dataclasses.replace(config, batching=Batching(max_rows=8, timeout_s=2.0))
    path = config.models / "probe" / "7"
    return loader.load(path if path.exists() else publish_probe(config.models, 7), patient)


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_concurrent_calls_run_together_and_each_gets_its_own_rows(patient: Servable) -> None:
    answers = together(
        [lambda value=value: predict(patient, x=floats([value])) for value in range(8)]
    )
    assert [answer["y"].tolist() for answer in answers] == [[[2.0 * value]] for value in range(8)]
    assert [answer["rows"].tolist() for answer in answers] == [[8]] * 8
    assert [answer["runs"].tolist() for answer in answers] == [[1]] * 8


def test_calls_of_different_trailing_shapes_do_not_meet(patient: Servable) -> None:
    calls = [
        lambda width=width, value=value: predict(patient, x=floats([value] * width))
        for width in (1, 2)
        for value in range(8)
    ]
    answers = together(calls)
    assert [answer["y"].shape for answer in answers] == [(1, 1)] * 8 + [(1, 2)] * 8
    assert [answer["rows"].tolist() for answer in answers] == [[8]] * 16


def test_merging_can_be_turned_off(config: BackendConfig, publish_probe: Publish) -> None:
    alone = dataclasses.replace(config, batching=None)
    servable = loader.load(publish_probe(config.models, 8), alone)
    answers = together([lambda: predict(servable, x=floats([1])) for _ in range(8)])
    assert {tuple(answer["rows"]) for answer in answers} == {(1,)}
    assert predict(servable, x=floats([1]))["runs"].tolist() == [9]


@settings(max_examples=20, deadline=None)
@given(calls=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 10)), min_size=1, max_size=30))
def test_whatever_comes_together_every_caller_gets_its_own_rows(
    probe: Servable, calls: list[tuple[int, int]]
) -> None:
    sent = [
        np.full((rows, width), float(number), np.float32)
        for number, (width, rows) in enumerate(calls)
    ]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda x: predict(probe, x=x)["y"], sent))
    for x, y in zip(sent, answers, strict=True):
        np.testing.assert_array_equal(y, 2 * x)
