"""The embedded backend: TensorFlow Serving's own API over a model repository, or a list of models.

| modules | what |
| --- | --- |
| `config`, `flags`, `model_config` | what can be set, by TensorFlow Serving's flags and files too |
| `source` | which versions there are, and which of them to serve |
| `manager`, `memory` | loads, swaps and unloads versions while requests run |
| `loader`, `tflite`, `warm_up` | one version in memory; the first imports TensorFlow, alone |
| `servable`, `signature`, `batcher` | asks it: checks, decodes, merges with other calls |
| `api`, `examples` | what each method means |
| `service`, `health`, `rest`, `json_*`, `metrics` | gRPC, HTTP, Prometheus |
| `labels`, `listing` | names for versions; another list of models at run time |
| `server` | binds the ports, starts and drains all of it |
"""

from __future__ import annotations

import os

# Read once, when TensorFlow is first imported. Its start-up notes are no log of ours.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN's own allocator never gives memory back; the system's costs a model 1 to 2% of its time.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
# Each model has threads of its own; else the first one that is loaded decides on those of all.
os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
