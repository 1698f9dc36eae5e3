"""What this machine is, and what of it keeps a training from running.

    packages    installed ones, against the pins of the project ──┐
    machine     cores, memory, disk, the driver's GPUs ───────────┼──► facts; problems with fixes
    framework   what TensorFlow can do, measured in a child ──────┘
                                └── probe

None but `probe` imports TensorFlow: an installation that is broken is what they are to explain.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from finetune import gpu
from finetune.doctor import framework, machine, packages
from finetune.doctor.finding import Fact, Problem, Report

__all__ = ["Fact", "Problem", "Report", "examine"]


def examine(folder: Path) -> Report:
    """Looks at everything; never raises for what is wrong with it.

    Args:
        folder: where runs are written; its disk is looked at.
    """
    gpus = gpu.find()
    found = list(chain(packages.examine(), machine.examine(folder, gpus), framework.examine(gpus)))
    return Report(
        facts=tuple(each for each in found if isinstance(each, Fact)),
        problems=tuple(each for each in found if isinstance(each, Problem)),
    )
