"""The flow of one call: inputs → tensors → backend → answers, in order.

    inputs     0 "a film"    1 ""    2 "a long text …"    3 {tensors}
                  │          ✗          │                   │
    jobs       bucket 16             bucket 64            as they are    at most `max_batch` rows
                  └─────────────────────┼───────────────────┘  concurrently
    backend                    submit, or execute
                  ▼          ▼          ▼                   ▼
    outcomes   labels      error     labels               tensors

Knows neither messages nor sockets: the backend is an `Execute`, or a `Submit` that merges calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bundle.errors import InputError
from bundle.postprocess import LabelScore, rank_labels
from bundle.preprocess import ImagePreprocessor, Preprocessor, Raw, TextPreprocessor
from serving.errors import BackendFault, InvalidArgument, UnknownModel
from serving.gateway.call import Call
from serving.gateway.catalog import Catalog
from serving.gateway.inputs import Input, sort_inputs
from serving.gateway.published import Model
from serving.gateway.types import SIGNATURE, Execute, ModelKey, Submit, Tensors

INLINE_CHARACTERS = 512  # tokenizing these takes less than handing them to a thread

# Two kilobytes may become a gigabyte of pixels for a moment. On one thread that is one gigabyte,
# however many callers there are, and their pictures take turns.
_UNPACKER = ThreadPoolExecutor(1, thread_name_prefix="pictures")

Outcome = Sequence[LabelScore] | Tensors | InvalidArgument


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One outcome per input, in order, and how they came about."""

    version: int
    outcomes: Sequence[Outcome]
    preprocess_s: float
    backend_s: float
    batches: Sequence[int]  # inputs in each call to the backend

    @property
    def best(self) -> Iterator[str]:
        """The most probable label of each input that has labels."""
        for outcome in self.outcomes:
            if isinstance(outcome, Sequence):
                yield outcome[0].label

    @property
    def refused(self) -> InvalidArgument | None:
        """The first input's error if every input has one."""
        errors = [outcome for outcome in self.outcomes if isinstance(outcome, InvalidArgument)]
        return errors[0] if len(errors) == len(self.outcomes) else None


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One call to the backend."""

    places: Sequence[int]  # of the inputs that it answers
    tensors: Tensors
    raw: bool  # they are the caller's own


_Prepared = tuple[list[_Job], Mapping[int, InvalidArgument]]


class Predictor:
    """Answers calls with the models of a catalog.

    Args:
        execute: runs a model on the caller's own tensors.
        submit: runs it on those that were made of raw inputs; may merge them with others'.
        max_batch: inputs in one call to them.
    """

    def __init__(self, catalog: Catalog, execute: Execute, submit: Submit, max_batch: int) -> None:
        self._catalog = catalog
        self._execute = execute
        self._submit = submit
        self._max_batch = max_batch

    async def predict(
        self, model: Model, inputs: Sequence[Input], call: Call, *, swap: str | None = None
    ) -> Answer:
        """Answers `inputs`, at least one; those that are wrong have an error as their outcome.

        Args:
            swap: the model's name if another version of it will do.

        Raises:
            ServingError: the model can't be asked.
        """
        try:
            return await self._answer(model, inputs, call)
        except UnknownModel:
            if swap is None:
                raise
            # The backend has swapped versions since the last look.
            await self._catalog.refresh()
            newer = self._catalog.find(swap, request_key=call.request_key)
            if newer.key == model.key:
                raise
            call.version = newer.key.version
            return await self._answer(newer, inputs, call)

    async def _answer(self, model: Model, inputs: Sequence[Input], call: Call) -> Answer:
        started = time.perf_counter()
        given = sort_inputs(model, inputs)
        jobs = [
            _Job(places=[place], tensors=tensors, raw=True)
            for place, tensors in given.tensors.items()
        ]
        prepared_jobs, damaged = await self._prepare(model.preprocessor, given.raw)
        jobs += prepared_jobs
        prepared = time.perf_counter()
        outcomes: dict[int, Outcome] = {**given.errors, **damaged}
        for job, outputs in zip(jobs, await self._run(model, jobs, call), strict=True):
            outcomes |= _finish(model, job, outputs)
        ended = time.perf_counter()
        return Answer(
            version=model.key.version,
            outcomes=[outcomes[place] for place in range(len(outcomes))],
            preprocess_s=prepared - started,
            backend_s=ended - prepared,
            batches=[len(job.places) for job in jobs],
        )

    async def _prepare(self, preprocessor: Preprocessor, raw: Mapping[int, Raw]) -> _Prepared:
        if isinstance(preprocessor, ImagePreprocessor):
            return await self._image_jobs(preprocessor, raw)
        texts = {place: value for place, value in raw.items() if isinstance(value, str)}
        if len(texts) == len(raw) and sum(map(len, texts.values())) <= INLINE_CHARACTERS:
            return self._text_jobs(preprocessor, raw), {}
        return await asyncio.to_thread(self._text_jobs, preprocessor, raw), {}

    def _text_jobs(self, preprocessor: TextPreprocessor, raw: Mapping[int, Raw]) -> list[_Job]:
        """Calls to the backend, each of one shape."""
        texts = [str(value) for value in raw.values()]
        ids = dict(zip(raw, preprocessor.encode(texts), strict=True)) if texts else {}
        by_bucket: dict[int, list[int]] = {}
        for place, tokens in ids.items():
            by_bucket.setdefault(preprocessor.bucket(len(tokens)), []).append(place)
        return [
            _Job(
                places=part,
                tensors=preprocessor.pad([ids[place] for place in part], bucket),
                raw=False,
            )
            for bucket, places in by_bucket.items()
            for part in self._parts(places)
        ]

    async def _image_jobs(
        self, preprocessor: ImagePreprocessor, raw: Mapping[int, Raw]
    ) -> _Prepared:
        """The same of pictures, and those that turned out damaged."""
        loop = asyncio.get_running_loop()
        pixels: dict[int, Tensors] = {}
        damaged: dict[int, InvalidArgument] = {}
        for place, value in raw.items():
            try:
                pixels[place] = await loop.run_in_executor(_UNPACKER, preprocessor, [value])
            except InputError as error:
                field = f"inputs[{place}].{error.field}"
                damaged[place] = InvalidArgument(field, error.problem)
        jobs = [
            _Job(
                places=part,
                tensors={
                    name: np.concatenate([pixels[place][name] for place in part])
                    for name in preprocessor.spec.inputs
                },
                raw=False,
            )
            for part in self._parts(list(pixels))
        ]
        return jobs, damaged

    def _parts(self, places: Sequence[int]) -> Iterator[Sequence[int]]:
        for start in range(0, len(places), self._max_batch):
            yield places[start : start + self._max_batch]

    async def _run(
        self, model: Model, jobs: Sequence[_Job], call: Call
    ) -> Sequence[Tensors | InvalidArgument]:
        if len(jobs) == 1:  # the most frequent case needs no task of its own
            return [await self._run_one(model, jobs[0], call)]
        tasks = [asyncio.ensure_future(self._run_one(model, job, call)) for job in jobs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # after a failure nobody waits for the others
                task.cancel()

    async def _run_one(self, model: Model, job: _Job, call: Call) -> Tensors | InvalidArgument:
        key = model.key
        try:
            if job.raw:
                return await self._execute(key, job.tensors, call.deadline)
            return await self._submit(key, job.tensors, call.deadline, call.visitor.name)
        except InvalidArgument as error:
            if job.raw:
                return InvalidArgument(f"inputs[{job.places[0]}].{error.field}", error.problem)
            raise BackendFault(f"the backend refuses tensors of ours: {error}") from error


def _finish(model: Model, job: _Job, outputs: Tensors | InvalidArgument) -> dict[int, Outcome]:
    if job.raw or isinstance(outputs, InvalidArgument):
        return {job.places[0]: outputs}
    name = model.manifest.signatures[SIGNATURE].outputs[0].name
    logits = outputs.get(name, np.empty(0))
    labels = len(model.manifest.labels) or None  # a language model has none
    _check_logits(name, logits, len(job.places), labels, model.key)
    if labels is None:
        return {place: {name: logits[[row]]} for row, place in enumerate(job.places)}
    return dict(zip(job.places, rank_labels(logits, model.manifest.labels), strict=True))


def _check_logits(name: str, logits: Any, rows: int, labels: int | None, key: ModelKey) -> None:
    whole = logits.ndim == 2 and len(logits) == rows and labels in (None, logits.shape[1])
    if not whole or logits.dtype.kind != "f":
        found = f"{logits.dtype} {list(logits.shape)}" if logits.size else "missing"
        wanted = f"floats [{rows}, {labels or 'tokens'}]"
        raise BackendFault(f"{name}: is {found}; {key} must give {wanted}")
    if not np.isfinite(logits).all():
        raise BackendFault(f"{name}: {key} gives values that are not finite")
