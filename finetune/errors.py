"""What can be wrong with a fine-tuning job.

FinetuneError
  x RecipeError     the recipe breaks its schema
  x DataError       a data file or a line of it can't be used
  x ModelError      the base model can't be loaded or doesn't fit the recipe
  x TrainingError   training can't go on
    x Interrupted     it was asked to stop, and can be taken up again
    x WorkerLost      another process of the training is gone
  x EvaluationError a model or its answers can't be evaluated
  x GenerationError a prompt or a setting of generation can't be used
  x ExportError     a model can't be brought into another format, here or at all
  x RefreshError    a model can't be trained again as its recipe says
    x LeaseHeld       another job is doing it now
    x LeaseLost       another job may have begun to do it
  x LeftToChief     this worker has done its part; another one publishes
  x GateRefused     a quality gate said no: nothing was published
"""

from __future__ import annotations


class FinetuneError(Exception):
    """Base of everything `finetune` raises; its message is one line for a person."""


class RecipeError(FinetuneError):
    """The recipe is missing, is not YAML, or a key or value of it is not valid."""


class DataError(FinetuneError):
    """A data file is missing, or a line of it breaks the format; names file and line."""


class ModelError(FinetuneError):
    """The base model can't be loaded, or doesn't fit the recipe."""


class TrainingError(FinetuneError):
    """Training can't go on, such as after a loss that is not a number."""


class Interrupted(TrainingError):
    """Training was asked to stop; its state is saved and it can be taken up again."""


class WorkerLost(TrainingError):
    """Another process of a distributed training is gone; all go on when started again."""


class EvaluationError(FinetuneError):
    """There is no such model to evaluate, not the data it was tested on, or no sense in it."""


class GenerationError(FinetuneError):
    """A prompt, or a setting of how texts are written, can't be used."""


class ExportError(FinetuneError):
    """A model can't be brought into another format: it has no form for it, or the machine can't."""


class RefreshError(FinetuneError):
    """A model can't be trained again on new data as its recipe says."""


class LeaseHeld(RefreshError):  # no fault: exit code 75, try again later
    """Another job is refreshing the model."""


class LeaseLost(RefreshError):
    """This job did not renew its lease in time, and must not publish."""


class LeftToChief(FinetuneError):  # an end, not a fault: exit code 0
    """Training is over on this worker, and the chief publishes its result."""


class GateRefused(FinetuneError):  # a verdict, not a fault: exit code 3
    """A quality gate refused a model; the message holds the figures and the limits."""
