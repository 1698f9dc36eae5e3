"""Data: JSONL → examples (`jsonl`) → splits (`split`) → length-bucketed batches (`batches`)."""
