"""A contender of `decode_speed`: our `Generator`.

Run as a module with a `decode_speed_job.Job` as JSON; prints tokens a second by batch size.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from benchmarks.decode_speed_job import Job
from finetune.deepseek import checkpoint
from finetune.deepseek.generate import Generator
from finetune.deepseek.sampling import Settings


def main(job: Job) -> dict[int, float]:
    """Decodes as the job says."""
    tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    tf_keras.mixed_precision.set_global_policy(job.dtype)
    model = checkpoint.from_pretrained(Path(job.folder))
    generator, settings = Generator(model), Settings(max_new_tokens=job.new)
    speeds = {}
    for batch in job.batches:
        draw = np.random.default_rng(job.seed)
        prompts = draw.integers(1, model.config.vocabulary, (batch, job.prompt)).tolist()
        generator.generate(prompts, settings)  # compiles
        start = time.perf_counter()
        answers = generator.generate(prompts, settings)
        speeds[batch] = batch * job.new / (time.perf_counter() - start)
        assert all(len(answer.tokens) == job.new for answer in answers)
    return speeds


if __name__ == "__main__":
    print(json.dumps(main(Job(**json.loads(sys.argv[1])))))
