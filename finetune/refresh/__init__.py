"""Trains a published model again when new data comes, and publishes the better one.

new files ─► plan ─► checks ─► train ─► compare with the champion ─► publish ─► report
               │                                                                  │
               └───── models/<name>/refresh/<run>/: a killed run goes on from here ┘

The champion is the version that is served, the challenger what was trained anew.
"""
