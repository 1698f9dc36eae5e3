"""How quick and how large bundles are on this device.

cpu  what computes      measure  one bundle, in its own process      chart  a picture of several
"""
