"""Data sets, from files to batches.

source          one door to every kind of data set      split     splits that don't leak
jsonl           JSON lines                              batches   length-bucketed batches
delimited       CSV and TSV                             labels    a label's name or index
image_folder    a folder a class                        images    checked, still encoded pictures
tfrecord        shards; shard_index, records, example and crc32c are its format
documents  conversations  chat_template                for language models
sequences       texts → tokens to predict               packing   several texts in a block
convert         any of these → shards, in parallel; `unfinished` holds what a killed run left
inspect  plot   counts, lengths, duplicates, leakage
augment_text  augment_images                            noise, for training only
sharding        equal parts for workers                 service   dynamic shards, by tf.data service
"""
