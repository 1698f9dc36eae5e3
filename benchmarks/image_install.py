"""Whether the installation steps of each image work in a bare environment.

command   make bench-image-install      (downloads some 1.5 GB of packages)

No container engine is needed: of each target of docker/Dockerfile the very `RUN` lines are run,
with the image's paths put below a folder of their own, where there is nothing but the files that
the Dockerfile copies; then the program is started and its HEALTHCHECK asked, or, of a job, its
default command run. What only a GPU's image needs is left out, and named.

    install_s   of all RUN lines
    size_mb     of the environment
    packages    in it
    health_s    from the start until it says that it is well
    not_run     packages that were left out

2 CPU cores that other work shared, Python 3.11, November 2026:

    image      install_s   size_mb   packages   health_s
    edge              18       264         39        1.1
    gateway           30       248         48        1.6
    demo              60       492         78       10.9
    finetune         123     2,462         66        0.5   not run: tensorflow[and-cuda]
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.repository import ModelRepository
from tensorseek import stack

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docker" / "Dockerfile"

IMAGES = ("edge", "gateway", "demo", "finetune")
_GPU_ONLY = ("tensorflow[and-cuda]",)
_PREFIX = "/opt/tensorseek"
_READY_S = 120


@dataclass(frozen=True)
class Stage:
    """One `FROM … AS name` and the instructions below it."""

    base: str
    steps: list[tuple[str, str]]  # instruction, the rest of its line

    def last(self, instruction: str) -> str:
        """What the last one of a kind says, empty without any."""
        found = [rest for name, rest in self.steps if name == instruction]
        return found[-1] if found else ""


def main() -> None:
    """Installs and starts each image's role, and prints one JSON line."""
    stages = read(DOCKERFILE.read_text())
    figures = {}
    for image in sys.argv[1:] or IMAGES:
        with tempfile.TemporaryDirectory(prefix=f"image-{image}-") as folder:
            figures[image] = _check(stages, image, Path(folder))
        print(f"{image}: {figures[image]}", file=sys.stderr)
    print(json.dumps({"benchmark": "image_install", "images": figures}))


def read(text: str) -> dict[str, Stage]:
    """The stages of a Dockerfile, by name."""
    stages: dict[str, Stage] = {}
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    steps: list[tuple[str, str]] = []
    for line in filter(None, joined.splitlines()):
        instruction, rest = line.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = rest.split()
            stages[name] = Stage(base, steps := [])
        else:
            steps.append((instruction, rest))
    return stages


def _check(stages: dict[str, Stage], image: str, folder: Path) -> dict[str, object]:
    source = next(
        found[1]
        for step, rest in stages[image].steps
        if step == "COPY" and (found := re.match(r"--from=(\S+)", rest))
    )
    began = time.monotonic()
    left_out = _install(stages, source, folder)
    installed = time.monotonic()
    size = sum(path.stat().st_size for path in (folder / "env").rglob("*") if path.is_file())
    packages = [*(folder / "env").rglob("*.dist-info")]
    return {
        "install_s": round(installed - began, 1),
        "size_mb": round(size / 1e6),
        "packages": len(packages),
        "health_s": round(_health(stages[image], image, folder), 1),
        "not_run": left_out,
    }


def _install(stages: dict[str, Stage], name: str, folder: Path) -> list[str]:
    """Does what a stage and those below it do, in `src`; says which packages were left out."""
    stage = stages[name]
    left_out = _install(stages, stage.base, folder) if stage.base in stages else []
    src = folder / "src"
    src.mkdir(exist_ok=True)
    for step, rest in stage.steps:
        if step == "COPY":
            _copy(rest.split(), src)
        elif step == "RUN":
            words = shlex.split(rest.replace(_PREFIX, str(folder / "env")))
            left_out += [word for word in words if word in _GPU_ONLY]
            _run([word for word in words if word not in _GPU_ONLY], src)
    return left_out


def _copy(names: Sequence[str], src: Path) -> None:
    *sources, target = names
    for name in sources:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, src / target, ignore=ignored)
        else:
            shutil.copy(ROOT / name, src / target)


def _run(command: Sequence[str], folder: Path) -> None:
    program = sys.executable if command[0] == "python" else command[0]
    done = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env=_bare(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stdout.strip().splitlines()[-1:]
        sys.exit(f"benchmarks.image_install: {shlex.join(command)}: {' '.join(last)}")


def _health(stage: Stage, image: str, folder: Path) -> float:
    """Seconds until the image's program says that it is well."""
    command = [*json.loads(stage.last("ENTRYPOINT")), *json.loads(stage.last("CMD"))]
    command[0] = str(folder / "env" / "bin" / command[0])
    work = folder / "work"  # empty, as the image's
    work.mkdir()
    began = time.monotonic()
    if stage.last("HEALTHCHECK") == "NONE":
        _run(command, work)
        return time.monotonic() - began
    ports = stack.free_ports()
    asked = json.loads(stage.last("HEALTHCHECK").partition("CMD ")[2])
    asked[0] = str(folder / "env" / "bin" / asked[0])
    asked[-1] = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{ports.http}", asked[-1])
    started = [*_placed(command, image, work), *_listening(image, ports)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(started, cwd=work, env=_bare(), stdout=log, stderr=log) as process,
    ):
        try:
            while subprocess.run(asked, env=_bare(), capture_output=True, check=False).returncode:
                if process.poll() is not None or time.monotonic() - began > _READY_S:
                    sys.exit(f"benchmarks.image_install: {image}: {(folder / 'log').read_text()}")
            return time.monotonic() - began
        finally:
            process.terminate()


def _placed(command: Sequence[str], image: str, work: Path) -> list[str]:
    """The command with what the image has mounted: a repository, or an edge bundle."""
    models = ModelRepository(ROOT / "models")
    bundle = [path for name in models.names() for path in models.edge_bundles(name, 1)]
    if image == "edge" and not bundle:
        sys.exit("benchmarks.image_install: models has no edge bundle; make one: make quickstart")
    (work / "models").mkdir()
    places = {"/models": str(work / "models"), "/bundle.zip": str(bundle[0]) if bundle else ""}
    return [places.get(word, "127.0.0.1" if word == "0.0.0.0" else word) for word in command]  # noqa: S104


def _listening(image: str, ports: stack.Ports) -> list[str]:
    if image == "gateway":
        return ["--port", str(ports.gateway), "--http-port", str(ports.http)]
    return ["--port", str(ports.http)]


def _bare() -> dict[str, str]:
    """Nothing of this project's environment, but for what reaches the package registry."""
    dropped = ("PYTHON", "VIRTUAL_ENV", "TENSORSEEK", "TF_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {"PATH": os.defpath}


if __name__ == "__main__":
    main()
