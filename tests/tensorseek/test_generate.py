"""Law: what the gateway streams is what the published DeepSeek model writes, token for token."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from serving.client import Client
from serving.errors import InvalidArgument
from serving.generation import Sampling


@pytest.fixture(scope="module")
def models(writer: Any) -> Path:
    found: Path = writer.models
    return found


@pytest.fixture(scope="module")
def address(up: Any) -> str:
    return f"127.0.0.1:{up.ports.gateway}"


def written(models: Path, prompt: str, most: int, **settings: float) -> tuple[str, int]:
    """What the SavedModel's own `generate` writes, and in how many tokens."""
    import tensorflow as tf

    folder = models / "writer" / "1"
    tokenizer = Tokenizer.from_file(str(folder / "assets.extra" / "tokenizer.json"))
    ids = np.asarray([tokenizer.encode(prompt).ids], np.int32)
    chosen = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": 0}
    chosen |= settings
    generate = tf.saved_model.load(str(folder)).signatures["generate"]
    kinds = {"top_k": tf.int32, "seed": tf.int32}
    outputs = generate(
        input_ids=tf.constant(ids),
        attention_mask=tf.ones_like(ids),
        max_new_tokens=tf.constant(most),
        **{
            name: tf.constant([value], kinds.get(name, tf.float32))
            for name, value in chosen.items()
        },
    )
    count = int(outputs["lengths"][0])
    new = [int(token) for token in outputs["tokens"][0][:count]]
    before = tokenizer.decode(ids[0].tolist(), skip_special_tokens=True)
    whole = tokenizer.decode(ids[0].tolist() + new, skip_special_tokens=True)
    return whole[len(before) :], count


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 1.0, "top_k": 8, "top_p": 0.9, "seed": 7}]
)
def test_the_stream_is_the_model_s_own_text(
    address: str, models: Path, settings: dict[str, Any]
) -> None:
    with Client(address) as client:
        text = client.generate(
            "writer", "the film", max_new_tokens=30, sampling=Sampling(**settings)
        )
        pieces = list(text)
    expected, count = written(models, "the film", 30, **settings)
    assert "".join(pieces) == expected
    assert len(pieces) > 1
    assert text.ending is not None
    assert text.ending.new_tokens == count
    assert text.ending.reason == ("length" if count == 30 else "end")


def test_the_command_prints_it(address: str, models: Path) -> None:
    command = [sys.executable, "-m", "tensorseek.cli", "generate", "writer", "the film"]
    command += ["--max-new-tokens", "20", "--gateway", address]
    expected, count = written(models, "the film", 20)
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == expected + "\n"
    told = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, timeout=60
    )
    answer = json.loads(told.stdout)
    assert (answer["text"], answer["new_tokens"]) == (expected, count)


def test_a_client_that_goes_away_leaves_nothing_running(up: Any, address: str) -> None:
    with Client(address) as client:
        text = client.generate("writer", "the film", sampling=Sampling(temperature=1.0, seed=1))
        next(iter(text))
        text.cancel()
    url = f"http://127.0.0.1:{up.ports.http}/metrics"
    end_s = time.monotonic() + 20
    while "tensorseek_in_flight 0.0" not in urllib.request.urlopen(url).read().decode():
        assert time.monotonic() < end_s, "it goes on"
        time.sleep(0.05)


def test_what_is_wrong_is_one_clear_error(address: str) -> None:
    with Client(address) as client:
        for wrong, message in (
            ({"prompt": "the film " * 500}, "prompt: has"),
            ({"prompt": "the", "sampling": Sampling(top_p=1.5)}, "sampling.top_p: is 1.5"),
        ):
            with pytest.raises(InvalidArgument, match=message):
                client.generate("writer", **wrong).text()
