"""Law: through a model's whole life, refreshed, killed at each step, tried on a share of the calls,
promoted, refused and rolled back, a client that asks all the time gets no error and no wrong
answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bundle import preprocess
from bundle.repository import ModelRepository
from finetune import answers, pipeline
from finetune.data import jsonl
from finetune.errors import RefreshError
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.refresh import contest, folder, job, page, promote
from finetune.refresh.folder import Report
from finetune.refresh.settings import Canary, Checks, Refresh
from serving.client import Client
from tensorseek import stack
from tensorseek.canary import trial
from tensorseek.canary.record import Trial

DECISIVE = {"positive": ("good", "great", "fine"), "negative": ("bad", "awful", "dull")}
LATER = {"great", "fine", "awful", "dull"}  # the champion has never seen them
ASKED = tuple(f"the {word} film was {word}" for words in DECISIVE.values() for word in words)


class Killed(BaseException):
    """Nothing of ours catches it."""


@dataclass
class Asking:
    """A client that asks without a pause, and what it was told."""

    address: str
    answers: list[tuple[str, int, str]] = field(default_factory=list)  # text, version, label
    errors: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with Client(self.address) as client:
            while not self._over.is_set():
                for text in ASKED:
                    try:
                        found = client.predict("tiny", [text])
                    except Exception as error:  # noqa: BLE001 (each one counts)
                        self.errors.append(repr(error))
                        continue
                    self.answers.append((text, found.version, found.labels[0][0].label))

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def wait_for(self, version: int) -> None:
        """Until the answers are this version's."""
        deadline = time.monotonic() + 60
        while not self.answers or self.answers[-1][1] != version:
            assert time.monotonic() < deadline, f"version {version} never came: {self.errors[:1]}"
            time.sleep(0.05)


@dataclass(frozen=True)
class Life:
    """A served first version, and where its recipe looks for new data."""

    recipe: Recipe
    models: Path
    log: Path  # of requests
    later: list[tuple[str, str]]
    client: Asking

    @property
    def new(self) -> Path:
        assert self.recipe.refresh is not None
        assert self.recipe.refresh.data is not None
        return self.recipe.refresh.data

    def refresh(self) -> Report:
        return job.run(self.recipe, models=self.models, progress=Silent())

    def try_out(self) -> Trial | None:
        return trial.go_on(self.recipe, models=self.models, progress=Silent(), stop=bool)


@pytest.fixture
def life(tiny_recipe: Callable[..., Recipe], tiny_data: Path, tmp_path: Path) -> Iterator[Life]:
    rows = [json.loads(line) for line in (tiny_data / "train.jsonl").read_text().splitlines()]
    pairs = [(row["text"], row["label"]) for row in rows]
    later = [pair for pair in pairs if LATER & set(pair[0].split())]
    jsonl.write(tmp_path / "train.jsonl", [pair for pair in pairs if pair not in later])
    for name in ("new", "logs"):
        (tmp_path / name).mkdir()
    settings = Refresh(
        data=tmp_path / "new",
        logs=tmp_path / "logs",
        checks=Checks(min_examples=10, max_label_shift=1),
        # It answers otherwise, since it has learnt something: here that is no fault.
        canary=Canary(
            gateway=tmp_path / "gateway.yaml",
            share=0.5,
            requests=40,
            max_slowdown=100,
            max_label_shift=1,
            min_agreement=0,
        ),
        keep=2,
    )
    recipe = tiny_recipe(f"data.train={tmp_path / 'train.jsonl'}", "edge.profiles=[float32]")
    recipe = recipe.model_copy(update={"refresh": settings})
    models = tmp_path / "models"
    pipeline.run(recipe, models=models, runs=tmp_path / "runs", progress=Silent())
    with served(models, tmp_path) as client:
        yield Life(recipe, models, tmp_path / "requests.jsonl", later, client)


@contextmanager
def served(models: Path, root: Path) -> Iterator[Asking]:
    ports = stack.free_ports()
    config = root / "gateway.yaml"
    settings = {
        "models": str(models),
        "backend": f"{stack.HOST}:{ports.backend}",
        "port": ports.gateway,
        "http_port": ports.http,
        "request_log": {"path": "requests.jsonl", "payloads": True},
    }
    config.write_text(yaml.safe_dump(settings))
    gateway = stack.Child(
        "gateway",
        ["serve", "gateway", "--config", str(config)],
        lambda: stack.answers(f"http://{stack.HOST}:{ports.http}/readyz"),
        root / "logs-of-children",
    )
    children = [stack.backend(models, ports, root / "logs-of-children"), gateway]
    with stack.running(children):
        stack.wait_ready(children)
        yield Asking(f"{stack.HOST}:{ports.gateway}")


def label_requests(life: Life) -> int:
    """What a person would do with the log: says what some of the texts are."""
    lines = [json.loads(line) for line in life.log.read_text().splitlines()]
    for line in lines:
        words = set(line["input"].split())
        line["label"] = next(name for name, found in DECISIVE.items() if words & set(found))
    logs = life.recipe.refresh.logs if life.recipe.refresh else None
    assert logs is not None
    (logs / "monday.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return len({line["input"] for line in lines})


def check_answers(life: Life) -> None:
    """Each answer is what its version of the model says."""
    assert life.client.errors == []
    repository = ModelRepository(life.models)
    for version in sorted({version for _, version, _ in life.client.answers}):
        saved = repository.load("tiny", version)
        forward = answers.forward(saved)
        preprocessor = preprocess.create(saved.manifest.preprocess, saved.read)
        expected = {}
        for text in ASKED:
            found = forward(**preprocessor([text]))["logits"].numpy()
            expected[text] = saved.manifest.labels[int(np.argmax(found))]
        told = {(text, label) for text, of, label in life.client.answers if of == version}
        assert told <= set(expected.items())


KILLED_AT: list[tuple[Any, str]] = [
    (pipeline.trainer, "train"),
    (pipeline.saved_model, "publish"),
    (pipeline.edge_bundle, "publish"),
    (contest.Contest, "compare"),
    (promote, "_copy"),
    (promote, "_copy_edge"),
    (page, "render"),
    (folder.Run, "tidy"),
]


def test_nobody_notices(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    with life.client.asking():
        life.client.wait_for(1)
        jsonl.write(life.new / "monday.jsonl", life.later)
        label_requests(life)
        for place, name in KILLED_AT:
            with monkeypatch.context() as patched:
                patched.setattr(place, name, killed)
                with pytest.raises(Killed):
                    life.refresh()
        with pytest.raises(RefreshError, match="version 2 is on trial"):
            life.refresh()  # the last kill came after the report
        with monkeypatch.context() as patched:
            patched.setattr(ModelRepository, "promote", killed)
            with pytest.raises(Killed):
                life.try_out()
        tried = life.try_out()
        assert tried is not None
        assert (tried.verdict, tried.version, tried.champion) == ("promoted", 2, 1)
        life.client.wait_for(2)

        wrong = {"positive": "negative", "negative": "positive"}
        worse = [(f"the {text} the", wrong[label]) for text, label in life.later]
        jsonl.write(life.new / "tuesday.jsonl", worse)
        report = life.refresh()
        assert (report.verdict, report.champion) == ("kept", 2)

        ModelRepository(life.models).rollback("tiny")
        life.client.wait_for(1)
    check_answers(life)
    assert {version for _, version, _ in life.client.answers} == {1, 2}
    assert ModelRepository(life.models).versions("tiny") == [1, 2]
