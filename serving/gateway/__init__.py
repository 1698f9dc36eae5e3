"""The gateway: the front door that turns raw input into answers, without TensorFlow.

    caller ──► server ──► endpoint ──► service ──► predictor ──► batcher ─┐
               workers    access       bulk        catalog                ├─► pool ──► backend ──►
               health     admission    messages    versions ◄── published ┘   trial   TensorFlow
               tls        http, json_api ──► service        ◄── models/               Serving
                          passthrough ──────────────────────► (raw bytes) ──► pool

types      the words the modules share          config, config_file    its settings
call       one call on its way                  metrics, request_log   what is left of it
"""
