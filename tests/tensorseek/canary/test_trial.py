"""Laws of a trial, over a real gateway and backend: a good version comes to be served, one that
fails, or answers otherwise, is withdrawn and stays so, and a trial that is cut off goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle import manifest
from bundle.repository import EXTRA, ModelRepository
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.refresh.folder import RefreshFolder, Report, Run
from finetune.refresh.settings import Canary, Refresh
from serving.backend.config import BackendConfig
from serving.backend.manager import Pace
from serving.backend.server import Backend
from serving.backend.source import RepositorySource
from serving.client import Client
from serving.errors import ServingError
from tensorseek import stack
from tensorseek.canary import record, trial
from tensorseek.canary.record import Trial
from tensorseek.errors import CanaryError
from tensorseek.process import Child

SHORT = ("a very good film", "awful plot", "the actor was fine")
LONG = "the film is very good and the plot is not bad but dull and awful"  # over 8 tokens
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Served:
    """A running gateway, its configuration file, and the models behind it."""

    models: Path
    config: Path
    address: str
    metrics: str

    @property
    def choices(self) -> dict[str, Any]:
        return yaml.safe_load(self.config.read_text()).get("versions") or {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("canary")
    models, config, ports = root / "models", root / "gateway.yaml", stack.free_ports()
    models.mkdir()
    settings = {
        "models": str(models),
        "backend": f"{stack.HOST}:{ports.backend}",
        "port": ports.gateway,
        "http_port": ports.http,
        "poll_s": 0.1,
        "request_log": {"path": "requests.jsonl", "payloads": True},
    }
    config.write_text(yaml.safe_dump(settings))
    url = f"http://{stack.HOST}:{ports.http}"
    gateway = Child(
        "gateway",
        ["serve", "gateway", "--config", str(config)],
        lambda: stack.answers(f"{url}/healthz"),
        root / "logs",
    )
    pace = Pace(poll_s=0.1, grace_s=1)
    with (
        Backend(BackendConfig(models=models, port=ports.backend, pace=pace)),
        stack.running([gateway]),
    ):
        stack.wait_ready([gateway])
        yield Served(models, config, f"{stack.HOST}:{ports.gateway}", f"{url}/metrics")


@dataclass
class Asking:
    """Callers who ask all the time, and what they were told: a version, or an error."""

    served: Served
    model: str
    told: list[int | str] = field(default_factory=list)

    @contextmanager
    def asking(self) -> Iterator[None]:
        over = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(over,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def wait_for(self, version: int) -> None:
        """Until only this version answers."""
        deadline = time.monotonic() + PATIENCE_S
        while set(self.told[-20:]) != {version}:
            assert time.monotonic() < deadline, self.told[-20:]
            time.sleep(0.02)

    def _ask(self, over: threading.Event) -> None:
        with Client(self.served.address, retries=0) as client:
            while not over.is_set():
                for text in (*SHORT, LONG):
                    try:
                        self.told.append(client.predict(self.model, [text]).version)
                    except Exception as error:  # noqa: BLE001 (each one counts)
                        self.told.append(repr(error))


@dataclass
class Case:
    """A model with a champion, version 1, and a version 2 on trial."""

    served: Served
    model: str
    recipe: Recipe
    callers: Asking

    def go_on(self, stop: Callable[[], bool] = lambda: False) -> Trial:
        found = trial.go_on(
            self.recipe, models=self.served.models, progress=Silent(), stop=stop, look_s=0.05
        )
        assert found is not None
        return found

    @property
    def repository(self) -> ModelRepository:
        return ModelRepository(self.served.models)

    @property
    def run(self) -> Run:
        ((run, _),) = RefreshFolder(self.served.models, self.model).reports()
        return run


@pytest.fixture
def case(
    served: Served, publish_tiny: Any, tiny_recipe: Any, tmp_path: Path, request: Any
) -> Callable[..., Case]:
    def make(publish: Callable[..., Any] = publish_tiny, seed: int = 0, **limits: Any) -> Case:
        name = request.node.name.removeprefix("test_").replace("_", "-")[:40].rstrip("-")
        publish_tiny(served.models, name)
        wait_served(served, name)
        staged = publish(tmp_path / "staged", name, seed)
        repository = ModelRepository(served.models)
        with repository.staging() as folder:
            shutil.copytree(staged.path, folder, dirs_exist_ok=True)
            (folder / EXTRA / manifest.FILE_NAME).unlink()
            repository.publish(folder, staged.manifest, on_trial=True)
        run = Run(served.models / name / "refresh" / "20261125T000000-0")
        run.path.mkdir(parents=True)
        run.finish(published(name), "a page")
        settings = {"share": 0.5, "requests": 60, "wait_s": PATIENCE_S, "max_slowdown": 100.0}
        canary = Canary(gateway=served.config, **{**settings, **limits})
        refresh = Refresh(data=tmp_path, canary=canary)
        recipe = tiny_recipe().model_copy(update={"name": name, "refresh": refresh})
        return Case(served, name, recipe, Asking(served, name))

    return make


def wait_served(served: Served, name: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with Client(served.address) as client:
        while True:
            try:
                client.predict(name, [LONG])
            except ServingError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return


def published(name: str) -> Report:
    return Report(
        model=name,
        run="20261125T000000-0",
        begun="2026-11-25T00:00:00Z",
        ended="2026-11-25T00:00:00Z",
        verdict="published",
        reasons=(),
        champion=1,
        version=2,
        on_trial=True,
        files=(),
        findings=None,
    )


@pytest.fixture
def publish_short(tokenizer_json: bytes, publish_tiny: Any) -> Callable[..., Any]:
    """A version that fails for texts of over 8 tokens; its golden inputs are shorter."""
    import tensorflow as tf

    def publish(root: Path, name: str, seed: int) -> Any:
        saved = publish_tiny(root, name, seed)
        loaded = tf.saved_model.load(str(saved.path))
        module = tf.Module()
        module.inner = loaded

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[
                tf.TensorSpec([None, None], tf.int32, name=each)
                for each in ("input_ids", "attention_mask")
            ]
        )
        def serve(input_ids: Any, attention_mask: Any) -> Any:
            tf.debugging.assert_less(tf.shape(input_ids)[1], 9)
            return loaded.serve(input_ids, attention_mask)

        extra = root / "extra"
        shutil.copytree(saved.path / EXTRA, extra)
        shutil.rmtree(saved.path)
        tf.saved_model.save(module, str(saved.path), signatures={"serving_default": serve})
        shutil.copytree(extra, saved.path / EXTRA, dirs_exist_ok=True)
        return saved

    return publish


def test_good(case: Callable[..., Case]) -> None:
    """The same weights again: promoted, with no failed call, and the split is gone."""
    found = case()
    with found.callers.asking():
        found.callers.wait_for(1)
        ended = found.go_on()
        found.callers.wait_for(2)
    assert (ended.verdict, ended.reasons) == ("promoted", ())
    assert ended.calls >= 60
    assert ended.agreement is not None
    assert ended.agreement.alike == ended.agreement.asked == 4
    assert set(found.callers.told) == {1, 2}
    assert found.repository.serving(found.model) == 2
    assert not found.served.choices[found.model]["split"]
    assert record.of(found.run) == ended
    assert record.pending(RefreshFolder(found.served.models, found.model)) is None


def test_other_labels(case: Callable[..., Case]) -> None:
    """Withdrawn; a backend that starts anew does not serve it, and a rollback passes it over."""
    found = case(seed=19)
    with found.callers.asking():
        found.callers.wait_for(1)
        ended = found.go_on()
        found.callers.wait_for(1)
    assert ended.verdict == "withdrawn"
    assert any("canary.max_label_shift" in reason for reason in ended.reasons)
    assert set(found.callers.told) == {1, 2}
    assert found.repository.serving(found.model) == 1
    assert found.repository.versions(found.model) == [1, 2]
    assert RepositorySource(found.served.models).wanted(found.model).versions == (1,)


def test_errors(case: Callable[..., Case], publish_short: Callable[..., Any]) -> None:
    """Withdrawn before it has had all its calls; afterwards no call fails."""
    found = case(publish_short, requests=5000)
    with found.callers.asking():
        found.callers.wait_for(1)
        ended = found.go_on()
        found.callers.wait_for(1)
    assert ended.verdict == "withdrawn"
    assert "calls failed" in ended.reasons[0]
    assert ended.calls < 5000


def test_too_few(case: Callable[..., Case]) -> None:
    """It stays on trial, says so, and the next run goes on with the same counts."""
    found = case(wait_s=0.01, requests=3)
    first = found.go_on()
    assert (first.verdict, first.reasons) == ("running", ("0 of canary.requests 3 calls so far",))
    assert found.served.choices[found.model]["split"] == {1: 50.0, 2: 50.0}
    with found.callers.asking():
        deadline = time.monotonic() + PATIENCE_S
        while (second := found.go_on()).verdict == "running":
            assert time.monotonic() < deadline
    assert (second.verdict, second.begun, second.before) == ("promoted", first.begun, first.before)


def test_killed_or_ended_by_hand(case: Callable[..., Case]) -> None:
    """What the repository says has happened; the rest is made up for."""
    found = case(wait_s=0.01)
    found.go_on()
    found.repository.withdraw(found.model)  # here it was killed
    ended = found.go_on()
    assert ended.verdict == "withdrawn"
    assert not found.served.choices[found.model]["split"]


def test_pinned_meanwhile(case: Callable[..., Case]) -> None:
    """Who pins a version has decided."""
    found = case(wait_s=0.01)
    found.go_on()
    found.repository.pin(found.model, 1)
    ended = found.go_on()
    assert (ended.verdict, ended.reasons) == ("withdrawn", ("version 1 was pinned meanwhile",))


def test_a_choice_of_somebody_elses_is_not_overwritten(case: Callable[..., Case]) -> None:
    found = case()
    content = yaml.safe_load(found.served.config.read_text())
    content["versions"] = {**(content.get("versions") or {}), found.model: {"version": 1}}
    found.served.config.write_text(yaml.safe_dump(content))
    with pytest.raises(CanaryError, match=r"says which version its calls get"):
        found.go_on()


def test_the_command_says_how_a_trial_stands(case: Callable[..., Case], tmp_path: Path) -> None:
    """Exit code 75 while it runs, told to whoever wants to know, and kept in the history."""
    found = case(wait_s=0.01)
    (tmp_path / "recipe.yaml").write_text(found.recipe.to_yaml())
    models = ["--models", str(found.served.models)]
    done = tensorseek(
        *["refresh", str(tmp_path / "recipe.yaml"), *models, "--runs", str(tmp_path)],
        *["--notify", f"tee {tmp_path / 'told.json'}"],
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (75, 0)
    assert f"{found.model}: version 2 is still on trial; version 1 stays" in done.stdout
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["trial"]["verdict"], told["trial"]["champion"]) == ("running", 1)
    assert "on trial" in tensorseek("models", "history", found.model, *models).stdout
    ended = tensorseek("models", "withdraw", found.model, *models)
    assert ended.stdout == f"{found.model}: serves version 1\n"


def tensorseek(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tensorseek.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
