"""Edge: runs and verifies quantized bundles on the device, without TensorFlow and without network.

runtime   LiteRT or tflite-runtime behind one adapter      errors   what can be wrong, and the fix
package   an edge bundle, opened and verified              runner   text in, labels with scores out
writer    a prompt in, text out, token by token            sampling which token comes next
local     the same for the apps of this device, over HTTP  services what those may ask
update    releases, checked and swapped in                 bench    times and memory
prove     whether a bundle answers here as published

    from edge.runner import EdgeRunner
    EdgeRunner.open("models/movie-sentiment/edge/1-dynamic_int8.zip").predict("a fine film")
    for piece in EdgeRunner.open("models/tales/edge/1-float32.zip").generate("Once", seed=7): …
"""
