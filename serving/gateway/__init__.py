"""The gateway: the front door that turns raw input into answers, without TensorFlow.

    caller ──► server ──► endpoint ──► service ──► predictor ──► batcher ─┐
               workers    access       bulk        catalog                ├─► pool ──► backend ──►
               health     admission    messages    versions ◄── published ┘   trial   TensorFlow
               tls        http, json_api ──► service        ◄── models/               Serving
                          passthrough ──────────────────────► (raw bytes) ──► pool

types      the words the modules share          config, config_file    its settings
call       one call on its way                  metrics, request_log   what is left of it
"""

from __future__ import annotations

import os

# gRPC's newer engine hands each event to a thread of its own. Its older one lets the thread that
# waits for events read the sockets too: a tenth less of the processor for each call. It is asked
# for here, as gRPC reads this once, when it is imported.
os.environ.setdefault(
    "GRPC_EXPERIMENTS",
    ",".join(f"-event_engine_{part}" for part in ("client", "listener", "callback_cq")),
)
