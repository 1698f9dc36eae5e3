"""What the model repository holds, as far as the gateway can read it.

A version that is broken never hides the ones that are not: it is left out, and the reason is
logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

from tokenizers import Tokenizer

from bundle import golden, manifest, preprocess
from bundle.errors import BundleError, ManifestError
from bundle.golden import Golden
from bundle.manifest import Manifest, Preprocess, TextPreprocess
from bundle.preprocess import Preprocessor
from bundle.repository import EXTRA, ModelRepository, SavedBundle
from serving.gateway.types import SIGNATURE, ModelKey

_log = logging.getLogger(__name__)

Stamp = tuple[int, int]  # inode and time of the manifest: another one means another bundle
_Recipe = tuple[Preprocess, tuple[str, ...]]  # with the SHA-256 of its files


@dataclass(frozen=True)
class Model:
    """One published version, ready to preprocess for."""

    manifest: Manifest
    preprocessor: Preprocessor
    stamp: Stamp
    tokenizer: Tokenizer | None = None  # of a model that writes texts; it cuts nothing off
    golden: Golden | None = None  # what it must answer before it is asked anything else

    @property
    def key(self) -> ModelKey:
        """Its name and version."""
        return ModelKey(self.manifest.name, self.manifest.version)


@dataclass(frozen=True)
class PublishedModel:
    """The readable versions of one model, and which of them should be served."""

    wanted: int
    versions: Mapping[int, Model]


class Published:
    """Reads a repository again and again; blocking, so it runs in a thread.

    Versions never change once they are published, so each is read and checked once. Versions
    with the same tokenizer share it: one takes some 10 MB.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository
        self._models: dict[str, PublishedModel] = {}
        self._preprocessors: WeakValueDictionary[_Recipe, Preprocessor] = WeakValueDictionary()
        self._reported: dict[str, str] = {}  # what is broken → why

    def scan(self) -> Mapping[str, PublishedModel]:
        """Every model with a version that can be read, by name."""
        try:
            names = self._repository.names()
        except OSError as error:
            self._report(str(self._repository.root), error)
            return self._models
        found = {name: self._read_model(name) for name in names}
        self._models = {name: model for name, model in found.items() if model is not None}
        return self._models

    def _read_model(self, name: str) -> PublishedModel | None:
        previous = self._models.get(name)
        try:
            wanted = self._repository.serving(name)
            numbers = self._repository.versions(name)
        except (BundleError, OSError) as error:
            self._report(name, error)
            return previous
        read = {number: self._read_version(name, number) for number in numbers}
        versions = {number: model for number, model in read.items() if model is not None}
        self._reported.pop(name, None)
        return PublishedModel(wanted, versions) if versions else previous

    def _read_version(self, name: str, version: int) -> Model | None:
        path = self._repository.root / name / str(version) / EXTRA / manifest.FILE_NAME
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            known = self._known(name, version)
            if known is not None and known.stamp == stamp:
                return known
            bundle = self._repository.load(name, version, verify=False)
            if SIGNATURE not in bundle.manifest.signatures:
                raise ManifestError(f"{path}: has no signature {SIGNATURE!r}. Publish it again.")
            preprocessor = self._preprocessor(bundle)
            examples = _golden(bundle)
        except (BundleError, OSError) as error:
            self._report(f"{name} version {version}", error)
            return None
        self._reported.pop(f"{name} version {version}", None)
        return Model(bundle.manifest, preprocessor, stamp, _tokenizer(bundle), examples)

    def _known(self, name: str, version: int) -> Model | None:
        model = self._models.get(name)
        return model.versions.get(version) if model else None

    def _preprocessor(self, bundle: SavedBundle) -> Preprocessor:
        spec = bundle.manifest.preprocess
        contents = {name: bundle.read(name) for name in spec.files}
        recipe = (spec, tuple(bundle.manifest.files[f"{EXTRA}/{name}"] for name in contents))
        found = self._preprocessors.get(recipe)
        if found is None:
            found = self._preprocessors[recipe] = preprocess.create(spec, contents.__getitem__)
        return found

    def _report(self, what: str, error: Exception) -> None:
        if self._reported.get(what) != str(error):
            self._reported[what] = str(error)
            _log.error("can't read a model", extra={"model": what, "reason": str(error)})


def _tokenizer(bundle: SavedBundle) -> Tokenizer | None:
    """Apart from the preprocessor's, which cuts texts to what training saw at once."""
    described = bundle.manifest
    if described.generation is None or not isinstance(described.preprocess, TextPreprocess):
        return None
    tokenizer = Tokenizer.from_buffer(bundle.read(described.preprocess.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _golden(bundle: SavedBundle) -> Golden | None:
    if f"{EXTRA}/{golden.FILE_NAME}" not in bundle.manifest.files:
        return None
    return golden.decode(bundle.read(golden.FILE_NAME), str(bundle.path / golden.FILE_NAME))
