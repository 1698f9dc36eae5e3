"""Writes the models that the conformance suite asks, and the files that a server of them needs.

    python tests/serving/conformance/models.py /tmp/conformance

half_plus_two/1, 2   TensorFlow 1's builder, after TensorFlow Serving's own example
    serving_default      x [B] → y = x/2 + 2; version 2 adds 3
    regress_x_to_y       examples with a float x → y [B, 1]
    classify_x_to_y      the same as scores, without labels
    classify_sign        → classes "negative", "positive", and their scores
pair/1               TensorFlow 2
    serving_default      a [B], b [B] → sum [B], product [B]
    upper                text [B] → text [B]
    first_bytes          text [B] → first_bytes [B], cut after its first byte
    total                x [?] → total, a scalar
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def write(root: Path) -> None:
    """Writes models, `models.config` and `monitoring.config` into an empty folder."""
    import tensorflow as tf

    for version, offset in ((1, 2.0), (2, 3.0)):
        _write_half_plus(tf, root / "half_plus_two" / str(version), offset)
    _write_pair(tf, root / "pair" / "1")
    (root / "models.config").write_text(config(root))
    (root / "monitoring.config").write_text("prometheus_config { enable: true }\n")


def config(root: Path) -> str:
    """The list of models: two versions of one, with labels, and another."""
    return f"""model_config_list {{
  config {{
    name: "half_plus_two"
    base_path: "{root}/half_plus_two"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "pair" base_path: "{root}/pair" model_platform: "tensorflow" }}
}}
"""


def _write_half_plus(tf: Any, path: Path, offset: float) -> None:
    v1 = tf.compat.v1
    utils = v1.saved_model.utils
    with tf.Graph().as_default(), v1.Session() as session:
        half = v1.get_variable("half", initializer=0.5)
        plus = v1.get_variable("plus", initializer=offset)
        x = v1.placeholder(tf.float32, [None], name="x")
        serialized = v1.placeholder(tf.string, [None], name="examples")
        features = tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        scores = half * features["x"] + plus
        signs = tf.tile([["negative", "positive"]], [tf.shape(scores)[0], 1])
        tensors = {
            "serving_default": ("predict", {"x": x}, {"y": half * x + plus}),
            "regress_x_to_y": ("regress", {"inputs": serialized}, {"outputs": scores}),
            "classify_x_to_y": ("classify", {"inputs": serialized}, {"scores": scores}),
            "classify_sign": (
                "classify",
                {"inputs": serialized},
                {"classes": signs, "scores": tf.concat([-scores, scores], 1)},
            ),
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        infos = utils.build_tensor_info
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                name: v1.saved_model.signature_def_utils.build_signature_def(
                    {key: infos(value) for key, value in inputs.items()},
                    {key: infos(value) for key, value in outputs.items()},
                    f"tensorflow/serving/{method}",
                )
                for name, (method, inputs, outputs) in tensors.items()
            },
        )
        builder.save()


def _write_pair(tf: Any, path: Path) -> None:
    def spec(name: str, dtype: Any = tf.float32) -> Any:
        return tf.TensorSpec([None], dtype, name=name)

    class Pair(tf.Module):
        @tf.function(input_signature=[spec("a"), spec("b")])
        def both(self, a: Any, b: Any) -> Any:
            return {"sum": a + b, "product": a * b}

        @tf.function(input_signature=[spec("text", tf.string)])
        def upper(self, text: Any) -> Any:
            return {"text": tf.strings.upper(text)}

        @tf.function(input_signature=[spec("text", tf.string)])
        def first(self, text: Any) -> Any:
            return {"first_bytes": tf.strings.substr(text, 0, 1)}

        @tf.function(input_signature=[spec("x")])
        def total(self, x: Any) -> Any:
            return {"total": tf.reduce_sum(x)}

    pair = Pair()
    signatures = {
        "serving_default": pair.both,
        "upper": pair.upper,
        "first_bytes": pair.first,
        "total": pair.total,
    }
    tf.saved_model.save(pair, str(path), signatures)


if __name__ == "__main__":
    write(Path(sys.argv[1]).absolute())
