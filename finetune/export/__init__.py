"""A trained model → what runs elsewhere.

candidate     a trained model, ready for export
serving_model its functions that are exported
saved_model   the SavedModel bundle that TensorFlow Serving loads
warmup        the requests it replays before it takes traffic
card          MODEL_CARD.md
edge_bundle   the zip a device runs, made by

lengths           which of the recipe's lengths it has
inference_graph   which graph the file is made of: our own, or the trained model's
encoder           BERT's architecture for small devices
decoder           DeepSeek's, likewise
picture_network   our residual network, likewise
untracked         a Keras model, hidden from TensorFlow
tflite            float and dynamic int8 files, by TensorFlow's converter
search            static int8 that keeps its accuracy: which step, which islands, by
  calibration       real training examples
  ranges            the numbers that flow
  clipping          feed-forward outliers cut off
  fitting           how far each tensor's int8 should reach
  migration         outlier channels moved into weights
  retraining        weights trained for int8's rounding
  int8_scales       which int8 stands for which number
  int8_kernels      which ops compute in int8, and since which version
  static_int8       the file, rewritten
tflite_file       a file taken apart and put together
flatbuffer        what really is in a file: dtypes, ops, versions; is its profile's name true
gate              float against quantized: publish or refuse
language_bundle   what the zip of a language model holds
language_gate     its gate
language_search   its static int8, likewise searched
converted         a model that its gate let pass

onnx          the model for onnxruntime
onnx_gate     does it answer as TensorFlow does
tensorrt      an engine for this machine's GPU
"""
