"""A new version proves itself on a share of the gateway's calls, before it gets all of them.

published, on trial ─► split 95 : 5 ─► counts by version ─► judgement ─► promoted │ withdrawn
        │                 │ gateway.yaml     /metrics       agreement
        └─────────────────┴─ models/<name>/refresh/<run>/trial.json: a killed one goes on from there
"""
