"""How good a model is, from its answers alone: NumPy, no TensorFlow.

interval         a figure with its 95% confidence interval
classification   accuracy, macro-F1, per class, calibration, confusion
language         perplexity
worst            the examples that a model got most wrong
"""
