"""Fine-tuning: from a recipe and data to a published bundle.

recipe  section  what a person writes               errors      what can be wrong, and the fix
data/      every format → examples → batches         tasks/      what a model is for, a file each
head  optimizer  schedule                            trainer     the loop; `step` is one step of it
precision  which dtype                               state       an unfinished training on disk
dropout    masks that can be made again              recompute   gradient checkpointing
distribution/  launch  ray_trainer: many devices     blocks      how deep each weight lies
evaluate  metrics/  figures with their intervals     watch       what TensorBoard shows
health     when to stop, and on which examples       report/     one page about a training
pretrained  scratch  residual_network: base models   deepseek/   the family, from checkpoints
checkpoint  weights on disk, all or nothing          export/     SavedModel, TFLite, ONNX, gates
doctor/    what this machine is, and what is wrong   sweep/      many trainings of one recipe
pipeline   all of it in order

transformers' TensorFlow classes and MultiWorkerMirroredStrategy need Keras 2 (`tf_keras`). The
switch is read when TensorFlow is first imported, so it is set here, in the one place that every
import of a finetune module passes.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # keep errors, drop the start-up chatter
