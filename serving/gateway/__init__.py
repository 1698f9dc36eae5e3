"""The gateway: the front door that turns raw input into answers, without TensorFlow.

    caller ──► server ──► endpoint ──► service ──► predictor ──► backend ──► TensorFlow Serving
               health     decoding     messages    catalog ◄── published ◄── models/
               http       admission
               passthrough ────────────────────────────────────► (raw bytes)

types      the words the modules share          config     its settings
"""
