"""The contenders of `serving_peers`: each in an environment of its own, as processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import torch_environment
from finetune.progress import Progress
from tensorseek import stack

MODEL, LABELS = "movie-sentiment", ("negative", "positive")  # ours, and what it tells apart
MODELS = Path("models")
FOLDER = Path("build", "serving-peers")
SENTENCES, TOKENIZER = "sentences.json", "tokenizer.json"
_HERE = Path(__file__).parent
_STOP_S = 20


def sentences() -> tuple[list[str], list[int]]:
    """What is asked: texts, and the trained model's label of each; makes all files unless there."""
    if not (FOLDER / SENTENCES).is_file():
        command = [sys.executable, "-m", "benchmarks.serving_peers_model", str(FOLDER)]
        subprocess.run(command, check=True)
    found = json.loads((FOLDER / SENTENCES).read_text())
    return [each["text"] for each in found], [each["label"] for each in found]


@contextmanager
def ours() -> Iterator[str]:
    """Runs backend and gateway as the command line starts them; gives the gateway's address."""
    ports = stack.free_ports()
    children = [
        stack.backend(MODELS, ports, FOLDER),
        stack.gateway(MODELS, ports, FOLDER, needs_model=True),
    ]
    with stack.running(children):
        stack.wait_ready(children)
        yield f"{stack.HOST}:{ports.gateway}"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One contender.

    Args:
        packages: pinned, as pip takes them; PyTorch is there.
        command: what follows the interpreter, from the settings: the model's folder, threads,
            port, largest batch, wait, workers.
        path: where it is asked, by POST.
        body: a text as its JSON.
        scores: of its JSON answer, one for each label.
        max_batch: most texts of a batch.
        wait_ms: how long a batch may wait for more.
        threads: of PyTorch, in each worker.
        workers: that compute.
    """

    name: str
    packages: tuple[str, ...]
    command: Callable[[Sequence[str]], Sequence[str]]
    path: str
    body: Callable[[str], Any]
    scores: Callable[[Any], Sequence[float]]
    max_batch: int
    wait_ms: float
    threads: int = 2
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return FOLDER / f"{self.name}-venv" / "bin" / "python"

    def install(self, progress: Progress) -> None:
        """Makes the environment, unless it is there as it should be.

        It sees PyTorch in the one that `torch_environment` makes.

        Raises:
            subprocess.CalledProcessError: a package can't be had; `stderr` says why.
        """
        torch_environment.install(progress)
        folder = self.python.parents[1]
        done, pins = folder / ".installed", "\n".join(self.packages)
        if done.is_file() and done.read_text() == pins:
            return
        with progress.timed(f"install {self.name}", expected_s=60):
            venv.create(folder, with_pip=True, clear=True)
            torch = _packages(torch_environment.PYTHON.parents[1]).absolute()
            (_packages(folder) / "torch.pth").write_text(f"{torch}\n")
            pip = [str(self.python), "-m", "pip", "install", "--quiet", *self.packages]
            subprocess.run(pip, check=True, stderr=subprocess.PIPE, text=True)
        done.write_text(pins)

    @contextmanager
    def running(self, port: int) -> Iterator[None]:
        """Runs it, with everything that it starts itself."""
        batching = (self.max_batch, self.wait_ms)
        given = (FOLDER.absolute(), self.threads, port, *batching, self.workers)
        settings = [str(each) for each in given]
        with (FOLDER / f"{self.name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(self.python.absolute()), *self.command(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=_HERE,
                env=os.environ | self.environment | {"PEER": " ".join(settings)},
                start_new_session=True,
            )
        try:
            yield
        finally:
            _end(process)


def _packages(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # whatever is left of it
    process.wait()


LITSERVE = Peer(
    name="litserve",
    packages=("litserve==0.2.19",),
    command=lambda settings: ["serving_peers_litserve.py", *settings],
    path="/predict",
    body=lambda text: {"text": text},
    scores=lambda answer: answer["scores"],
    max_batch=8,
    wait_ms=5,
)
BENTOML = Peer(
    name="bentoml",
    packages=("bentoml==1.4.40",),
    command=lambda settings: [
        *("-m", "bentoml", "serve", "serving_peers_bentoml:Peer"),
        *("--host", "127.0.0.1", "--port", settings[2]),
    ],
    path="/classify",
    body=lambda text: {"texts": [text]},
    scores=lambda answer: answer[0],
    max_batch=16,
    wait_ms=60_000,
    threads=1,
    workers=2,
    environment={
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(FOLDER.absolute() / "bentoml"),
    },
)
TRITON = Peer(
    name="triton",
    packages=("nvidia-pytriton==0.7.0",),
    command=lambda settings: ["serving_peers_triton.py", *settings],
    path="/v2/models/classifier/infer",
    body=lambda text: {
        "inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]
    },
    scores=lambda answer: answer["outputs"][0]["data"],
    max_batch=8,
    wait_ms=2,
    # Its server is linked with the interpreter's own library, wherever that is.
    environment={"LD_LIBRARY_PATH": str(Path(sys.base_prefix, "lib"))},
)
PEERS = (LITSERVE, BENTOML, TRITON)
