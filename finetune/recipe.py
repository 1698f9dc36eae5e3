"""The recipe: one YAML file that says everything about a fine-tuning job.

Precedence: default < file < `--set key=value`. Unknown keys are refused with the nearest valid
name. The effective recipe is written beside every output.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, model_validator

from bundle.manifest import Profile, Task, check_name
from finetune import section
from finetune.errors import RecipeError
from finetune.refresh.settings import Refresh
from finetune.section import Section


def _model_name(name: str) -> str:
    check_name(name)
    return name


def _rising(buckets: tuple[int, ...]) -> tuple[int, ...]:
    if list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        raise ValueError(f"must rise from at least 1, not {list(buckets)}")
    return buckets


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"repeats {repeated}; name each once")
    return names


def _rising_or_none(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return _rising(sizes) if sizes else sizes


Share = Annotated[float, Field(ge=0, le=1)]
Noise = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Step = Annotated[int, Field(ge=2)]

_TEXT_NOISE = ("mask", "delete", "swap", "span")
_IMAGE_NOISE = ("flip", "rotation", "zoom", "contrast")
_FOREIGN_NOISE: dict[Task, tuple[str, ...]] = {
    "text-classification": _IMAGE_NOISE,
    "image-classification": _TEXT_NOISE,
    "text-generation": (*_TEXT_NOISE, *_IMAGE_NOISE),
}


class Image(Section):
    """How large pictures are; all are square."""

    size: Annotated[int, Field(ge=16, le=2048)] = 224  # pixels, of evaluation and deployment
    scales: Annotated[tuple[int, ...], AfterValidator(_rising_or_none)] = ()  # pixels, drawn anew
    # for each training step; by default always `size`


class Data(Section):
    """Three data sets, and how they become batches.

    Texts with labels: a .jsonl, .csv or .tsv file, or a folder of TFRecord shards. Pictures with
    labels: a folder for each label, or a folder of TFRecord shards. For a language model: plain
    text, a .txt or .jsonl file; or conversations, a .jsonl file.
    """

    train: Path
    dev: Path
    test: Path
    text_column: str = "text"  # of a .csv or .tsv file
    label_column: str = "label"
    labels: Annotated[tuple[str, ...], AfterValidator(_distinct)] = ()
    buckets: Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_rising)] = (
        16,
        32,
        64,
    )  # tokens; texts pad to the smallest that holds them, and are cut at the last; a language
    # model reads blocks of the last
    format: Literal["plain", "chat"] = "plain"  # of a language model's texts; chat: a line is
    # {"messages": [{"role": "user", "content": "…"}, …]}, and only the assistant's are learnt
    packing: bool = False  # of texts for a DeepSeek model: several share a block, each by itself
    max_characters: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    image: Image = Image()
    batch_size: Annotated[int, Field(ge=1)] = 32  # examples a step
    service: str | None = None  # host:port of `tensorseek data serve`, which then prepares the
    # training examples; their order is no longer the seed's


class Scratch(Section):
    """A small model with random weights, for machines that have no checkpoint."""

    decoder: Literal["gpt2", "deepseek_v3"] = "gpt2"  # the architecture of a language model
    experts: Annotated[int, Field(ge=2, le=256)] = 8  # of deepseek_v3, in each block but the first
    layers: Annotated[int, Field(ge=1, le=48)] = 4  # blocks; of pictures: in each of four stages
    hidden: Annotated[int, Field(ge=8, le=4096)] = 128  # units; of pictures: in the last stage
    heads: Annotated[int, Field(ge=1, le=64)] = 4  # of attention
    vocabulary: Annotated[int, Field(ge=300, le=200_000)] = 4000  # tokens, learnt from the texts
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # deepseek_v3 has none


class Augment(Section):
    """Noise on training examples; see `data.augment_text` and `data.augment_images`."""

    mask: Noise = 0.0  # of each token
    delete: Noise = 0.0  # of each token
    swap: Noise = 0.0  # of each pair of neighbours
    span: Noise = 0.0  # of each text: a run of tokens becomes one mask
    span_tokens: Annotated[int, Field(ge=1)] = 3  # the longest such run
    flip: bool = False  # left and right, every other picture
    rotation: Noise = 0.0  # of a full turn, to either side
    zoom: Noise = 0.0  # 0.2 shows from 80 % to 120 % of height and width
    contrast: Noise = 0.0  # 0.2 multiplies the distance from the mean by 0.8 to 1.2


class Head(Section):
    """What replaces the base model's classifier: dense, activation, dropout, projection."""

    hidden: Annotated[int, Field(ge=1)] | None = None  # units; by default the base's hidden size
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    alone: bool = False  # train nothing but it: the base model stays as it is


class Optimizer(Section):
    """AdamW; weight decay never touches biases and norms."""

    learning_rate: Positive = 5e-5  # the peak
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Positive = 1e-8
    clip_norm: Positive | None = 1.0  # global norm, after unscaling
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the rate, for each block deeper


class Schedule(Section):
    """Linear warm-up to the peak, then the chosen decay to the floor."""

    kind: Literal["cosine", "linear", "polynomial", "constant"] = "cosine"
    power: Positive = 2.0  # of the polynomial
    epochs: Annotated[int, Field(ge=1)] = 1
    warmup: Share = 0.1  # share of all steps
    floor: Share = 0.0  # share of the peak
    micro_batches: Annotated[int, Field(ge=1)] = 1  # of a step, whose gradients are accumulated
    patience: Annotated[int, Field(ge=1)] | None = None  # epochs without a better dev score


class Memory(Section):
    """What to trade for memory."""

    gradient_checkpointing: bool = False  # compute each block again for its gradients
    xla: bool = False  # compile forward and backward, one program a length bucket


class Lora(Section):
    """Low-rank adaptation of a DeepSeek model: `lora: {}` takes the defaults; see `deepseek.lora`.

    The adapter alone lies under `runs/`, in PEFT's format; what is published has it merged.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Positive = 16.0  # the path is multiplied by alpha / rank
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of what goes into the path
    targets: Annotated[tuple[str, ...], AfterValidator(_distinct)] = ()  # names of layers, such as
    # q_proj or gate_proj; by default every one of attention


class Moe(Section):
    """Of a model with experts; see `deepseek.balance`."""

    bias_update_speed: Share = 0.0  # how much the routers' bias evens the experts' load after each
    # step of a training from scratch, such as 0.001; fine-tuning leaves the bias alone


class Distribution(Section):
    """Where the steps run."""

    strategy: Literal["none", "mirrored", "multi_worker", "horovod"] = "none"
    devices: tuple[str, ...] | None = None  # of `mirrored`; by default every GPU


class Checkpoint(Section):
    """When an unfinished training is saved, besides at the end of each epoch and on a signal."""

    every_s: Positive = 300.0  # a training that dies loses at most so much
    resume: bool = False  # refuse to start where there is no unfinished training


class Logging(Section):
    """TensorBoard files under the run's folder."""

    every: Annotated[int, Field(ge=1)] = 10  # steps between two rows of scalars
    histograms: bool = False  # of weights and gradients, once an epoch
    profile: tuple[Step, Step] | None = None  # the first and last step that TensorBoard profiles


class Gates(Section):
    """What a quantized model must keep of the float model, on the test split."""

    max_drop: Share = 0.005  # accuracy: 0.005 is half a point
    min_agreement: Share = 0.98


class FullInt8Gates(Gates):
    """Of a model without any float."""

    max_drop: Share = 0.015
    min_agreement: Share = 0.9


class MixedInt8Gates(Gates):
    """Of a model with islands of float."""

    max_drop: Share = 0.01
    min_agreement: Share = 0.95


class LanguageGates(Section):
    """What a language model must keep, on the test split."""

    max_rise: Positive = 0.02  # of the perplexity: 0.02 is 2 %
    min_agreement: Share = 0.9  # on the most likely token


class Edge(Section):
    """Edge bundles to make, and when to refuse them."""

    profiles: tuple[Profile, ...] = ("dynamic_int8",)
    gates: Gates = Gates()  # of a classifier's profiles but the next two
    full_int8: FullInt8Gates = FullInt8Gates()
    mixed_int8: MixedInt8Gates = MixedInt8Gates()
    language: LanguageGates = LanguageGates()  # of every profile of a language model

    def limits(self, profile: Profile) -> Gates:
        """When to refuse a classifier's bundle of a profile."""
        own: dict[str, Gates] = {"full_int8": self.full_int8, "mixed_int8": self.mixed_int8}
        return own.get(profile, self.gates)


class Evaluation(Section):
    """When to refuse the trained model."""

    min_accuracy: Share = 0.0  # on the test split
    max_perplexity: Positive | None = None  # of a language model, likewise


class Recipe(Section):
    """A whole fine-tuning job."""

    name: Annotated[str, AfterValidator(_model_name)]
    task: Task
    base_model: str | None = None  # a folder, or a name on the hub
    scratch: Scratch | None = None  # instead of a base model
    data: Data
    augment: Augment = Augment()
    head: Head = Head()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    memory: Memory = Memory()
    lora: Lora | None = None
    moe: Moe = Moe()
    distribution: Distribution = Distribution()
    checkpoint: Checkpoint = Checkpoint()
    logging: Logging = Logging()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    evaluation: Evaluation = Evaluation()
    edge: Edge = Edge()
    refresh: Refresh | None = None  # on a schedule, when new data comes

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = list(_misfits(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def to_yaml(self) -> str:
        """The effective recipe, as a file that `load` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def identity(self, base_model_sha256: str, data_sha256: str) -> str:
        """SHA-256 of the training: the same weights, data and settings, wherever they lie.

        Gates, logs, edge profiles and refreshes are no part: changing them trains nothing again.
        """
        beside = {"checkpoint", "edge", "evaluation", "logging", "refresh"}
        content = self.model_dump(mode="json", exclude=beside)
        content["base_model"] = base_model_sha256
        content["data"] |= {"train": data_sha256, "dev": "", "test": ""}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _misfits(recipe: Recipe) -> Iterator[str]:
    """What of a recipe does not fit the rest of it."""
    profiled = recipe.logging.profile
    if (recipe.base_model is None) == (recipe.scratch is None):
        yield "base_model: give either base_model, or scratch for random weights"
    if recipe.scratch is not None and recipe.lora is not None:
        yield "lora: random weights are worth no adapter; remove it, or name a base_model"
    if recipe.scratch is not None and recipe.refresh and recipe.refresh.start == "champion":
        yield "refresh.start: from scratch the tokenizer is learnt anew each time; use base"
    if recipe.scratch is not None and recipe.head.alone:
        yield "head.alone: random weights are no base for a head; remove it, or name a base_model"
    if recipe.lora is not None and recipe.head.alone:
        yield "head.alone: then lora has nothing to train; remove one of them"
    if profiled and profiled[0] > profiled[1]:
        yield f"logging.profile: {list(profiled)} ends before it begins"
    if recipe.data.service is not None:
        yield from _service_misfits(recipe)
    yield from _task_misfits(recipe)


def _task_misfits(recipe: Recipe) -> Iterator[str]:
    task, labels = recipe.task, len(recipe.data.labels)
    if task == "text-generation":
        yield from _language_misfits(recipe)
    elif labels < 2:
        yield f"data.labels: {task} needs at least 2, got {labels}"
    if task != "text-generation" and recipe.data.format != "plain":
        yield f"data.format: only a language model learns from conversations, not {task}; remove it"
    if task != "text-generation" and recipe.data.packing:
        yield f"data.packing: only a language model's texts are packed, not {task}'s; remove it"
    if task != "text-generation" and recipe.scratch and recipe.scratch.decoder != "gpt2":
        yield f"scratch.decoder: is the architecture of a language model, not of {task}; remove it"
    defaults = Augment()
    for name in _FOREIGN_NOISE[task]:
        if getattr(recipe.augment, name) != getattr(defaults, name):
            yield f"augment.{name}: is no noise for {task}; remove it"


def _language_misfits(recipe: Recipe) -> Iterator[str]:
    if recipe.data.labels:
        yield "data.labels: a language model has none; remove them"
    if recipe.head.alone:
        yield "head.alone: a language model has no head to train; remove it"
    if recipe.refresh is not None and recipe.refresh.logs is not None:
        yield "refresh.logs: a language model learns from no requests; put texts into refresh.data"
    if recipe.refresh is not None and recipe.scratch is not None:
        yield "refresh: from scratch the tokenizer is learnt anew each time; name a base_model"
    if recipe.data.format == "chat" and recipe.scratch is not None:
        yield "data.format: a model from scratch has no chat template; use plain"


def _service_misfits(recipe: Recipe) -> Iterator[str]:
    if recipe.task == "image-classification":
        yield "data.service: pictures are decoded in the training process; remove it"
    if recipe.distribution.strategy in ("multi_worker", "horovod"):
        yield (
            f"data.service: with {recipe.distribution.strategy} every process takes its part of "
            "the same batches, which a service does not give; remove it"
        )


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        path: YAML.
        overrides: `key=value`, the key dotted (`optimizer.learning_rate=1e-4`), the value YAML.

    Raises:
        RecipeError: names the file, the key, its value and the fix.
    """
    content = section.read(path, "recipe")
    for override in overrides:
        _apply(content, override)
    return parse(content, origin=str(path))


def parse(content: dict[str, Any], origin: str) -> Recipe:
    """Checks a recipe that is already a mapping; see `load`."""
    return section.check(Recipe, content, origin)


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override!r}: write it as key=value, such as schedule.epochs=2")
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override!r}: {parent} is a value, it has no keys")
    try:
        # YAML 1.1 takes 1e-4 for a string; JSON does not.
        place[last] = json.loads(value)
    except ValueError:
        try:
            place[last] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:
            raise RecipeError(f"--set {override!r}: the value is not YAML") from error
