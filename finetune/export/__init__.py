"""A trained model → what runs elsewhere.

candidate     a trained model, ready for export
serving_model its functions that are exported
saved_model   the SavedModel bundle that TensorFlow Serving loads
warmup        the requests it replays before it takes traffic
card          MODEL_CARD.md
tflite        the edge model, by quantization profile
flatbuffer    what really is in a .tflite file: dtypes, ops, versions
gate          float against quantized: publish or refuse
edge_bundle   the zip a device runs
onnx          the model for onnxruntime
onnx_gate     does it answer as TensorFlow does
tensorrt      an engine for this machine's GPU
"""
