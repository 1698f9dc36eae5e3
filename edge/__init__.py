"""Edge: runs and verifies quantized bundles on the device, without TensorFlow and without network.

runtime   LiteRT or tflite-runtime behind one adapter      errors   what can be wrong, and the fix
package   an edge bundle, opened and verified              runner   text in, labels with scores out

    from edge.runner import EdgeRunner
    EdgeRunner.open("models/movie-sentiment/edge/1-dynamic_int8.zip").predict("a fine film")
"""
