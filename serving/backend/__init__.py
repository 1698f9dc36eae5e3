"""The embedded backend: TensorFlow Serving's own gRPC API over a model repository.

    config      what can be set
    signature   what a model takes and gives; checks a request against it
    loader      one SavedModel version in memory; the only importer of TensorFlow here
    source      which versions lie in the repository, and which of them to serve
    manager     loads, swaps and unloads versions while requests run
    service     PredictionService and ModelService          health   grpc.health.v1
    server      binds the port, starts and drains all of it

Later methods (Classify, Regress, REST) are further callers of `manager.lease`.
"""

from __future__ import annotations

import os

# Read once, when TensorFlow is first imported: its start-up notes are no log of ours.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
