"""Serving: the gateway that clients call, and an embedded TensorFlow Serving behind it.

gateway/   gRPC for text and tensors, HTTP for health and metrics; never imports TensorFlow
backend/   TensorFlow Serving's own API over SavedModel folders
client     what a Python caller uses; async_client on an event loop
           answers, generation, stream: what it gets; connection: how it gets there
tensors    NumPy ↔ the tensor messages of both APIs
errors     the error tree and its gRPC status codes
"""
