"""Laws of the inputs that both versions are asked: the model's last different ones, of any log."""

from __future__ import annotations

import json
from pathlib import Path

from serving.gateway.config import RequestLog
from tensorseek.canary import agreement
from tensorseek.canary.agreement import Agreement


def test_the_last_different_inputs_of_the_model_are_taken(tmp_path: Path) -> None:
    rows = [
        {"model": "tiny", "input": "first"},
        {"model": "other", "input": "not ours"},
        {"model": "tiny", "input_base64": "AAE="},
        {"model": "tiny"},
        {"model": "tiny", "input": "first"},
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"model": "tiny", "inp')
    log = RequestLog(path=path, payloads=True)
    assert agreement.sample(log, "tiny") == [b"\0\1", "first"]
    assert agreement.sample(RequestLog(path=path), "tiny") == []
    assert agreement.sample(None, "tiny") == []


def test_few_answers_say_little() -> None:
    assert Agreement(asked=10, alike=0).faults(0.8) == []
    assert Agreement(asked=100, alike=80).faults(0.8) == []
    (fault,) = Agreement(asked=100, alike=79).faults(0.8)
    assert "79 of 100 answers to the same inputs" in fault
