"""The messages between processes: our public API and what we speak of TensorFlow Serving's.

Generated code stands beside its source; `make protos` makes it again.
"""
