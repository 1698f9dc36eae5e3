"""What a trained model is on disk, and what turns raw input into tensors and answers.

    manifest     the typed description every bundle carries
    preprocess   raw input → tensors             postprocess  tensors → labels with scores
    golden       answers a loaded model must give
    integrity    SHA-256 of files                archive      reproducible, safe zip
    atomic       whole-or-nothing writes         repository   models/<name>/<version>/

Imports nothing else of Tensorseek: every other package meets here.
"""
