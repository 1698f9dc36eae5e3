"""Python and the installed packages, against what the project's own metadata asks for."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from finetune.doctor.finding import Fact, Finding, Problem

_PROJECT = "tensorseek"
_EXTRA = "finetune"
_OPTIONAL = ("tf2onnx", "onnx", "onnxruntime", "tensorrt", "horovod", "ray")


def examine() -> Iterator[Finding]:
    """Versions, those that do not fit, and whether TensorFlow will use Keras 2."""
    try:
        metadata = importlib.metadata.metadata(_PROJECT)
    except importlib.metadata.PackageNotFoundError:
        yield Problem(
            what=f"{_PROJECT} is not installed, so nothing says which packages it needs",
            fix=f"in its checkout: pip install -e '.[{_EXTRA}]'",
            stops_training=False,
        )
    else:
        yield from judge_python(platform.python_version(), metadata["Requires-Python"])
        for line in importlib.metadata.requires(_PROJECT) or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": _EXTRA}):
                yield from judge(wanted, _version(wanted.name))
    yield from judge_keras(_version("tf-keras"), _version("tensorflow"))
    for name in _OPTIONAL:
        yield Fact(section="optional", name=name, value=_version(name) or "not installed")


def judge_python(version: str, wanted: str) -> Iterator[Finding]:
    """Whether Python is one of the `wanted` ones, such as `>=3.11,<3.14`."""
    yield Fact(section="packages", name="python", value=version)
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        yield Problem(
            what=f"Python is {version}; what works is {wanted}",
            fix="make the environment again with Python 3.11",
            stops_training=True,
        )


def judge(wanted: Requirement, version: str | None) -> Iterator[Finding]:
    """Whether a package is there, in a version that works."""
    yield Fact(section="packages", name=wanted.name, value=version or "not installed")
    if version is None or not wanted.specifier.contains(version, prereleases=True):
        yield Problem(
            what=f"{wanted.name} is {version or 'not installed'}; "
            f"what works is {wanted.specifier or 'any version'}",
            fix=f"pip install '{wanted.name}{wanted.specifier}'",
            stops_training=True,
        )


def judge_keras(keras: str | None, tensorflow: str | None) -> Iterator[Finding]:
    """Whether TensorFlow will use Keras 2, and one that was made for it.

    transformers' TensorFlow classes and MultiWorkerMirroredStrategy do not run with Keras 3.
    """
    switch = os.environ.get("TF_USE_LEGACY_KERAS", "")  # `finetune` sets it if nobody did
    yield Fact(section="packages", name="Keras 2 switch", value=f"TF_USE_LEGACY_KERAS={switch}")
    if switch.lower() not in ("1", "true"):
        yield Problem(
            what=f"TF_USE_LEGACY_KERAS is {switch!r}, so TensorFlow uses Keras 3",
            fix="unset it: Tensorseek sets it to 1",
            stops_training=True,
        )
    if keras and tensorflow and _minor(keras) != _minor(tensorflow):
        yield Problem(
            what=f"tf-keras {keras} was made for another TensorFlow than {tensorflow}",
            fix=f"pip install 'tf-keras=={_minor(tensorflow)}.*'",
            stops_training=True,
        )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
