"""A contender of `decode_speed`: transformers' `generate`, in an environment of its own.

Run as a script with a `decode_speed_job.Job` as JSON; prints tokens a second by batch size.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def main(job: dict[str, Any]) -> dict[int, float]:
    """Decodes as the job says."""
    torch.set_num_threads(job["threads"])
    dtype = getattr(torch, job["dtype"])
    model = AutoModelForCausalLM.from_pretrained(job["folder"], torch_dtype=dtype).eval()
    speeds = {}
    for batch in job["batches"]:
        draw = np.random.default_rng(job["seed"])
        ids = draw.integers(1, model.config.vocab_size, (batch, job["prompt"]))
        prompts = torch.from_numpy(ids)
        _write(model, prompts, new=8)  # warms up
        start = time.perf_counter()
        whole = _write(model, prompts, new=job["new"])
        speeds[batch] = batch * job["new"] / (time.perf_counter() - start)
        assert whole.shape[1] == job["prompt"] + job["new"]
    return speeds


def _write(model: Any, prompts: Any, new: int) -> Any:
    with torch.inference_mode():
        return model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
