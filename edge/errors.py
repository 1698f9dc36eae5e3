"""What can go wrong on a device; what is wrong with the bundle itself is in `bundle.errors`.

EdgeError
  x RuntimeMissing   no TFLite runtime is installed
  x RuntimeUnfit     the runtime can't run this bundle
  x UpdateError      a release can't be had, or must not be installed
  x DeviceError      a device's folder holds nothing that runs
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of everything `edge` raises; its message is one line for a person."""


class RuntimeMissing(EdgeError):
    """No TFLite runtime is installed."""


class RuntimeUnfit(EdgeError):
    """The installed runtime is too old for the bundle's ops, or refuses its model."""


class UpdateError(EdgeError):
    """A release can't be had, or must not be installed; what runs goes on running."""


class DeviceError(EdgeError):
    """A device's folder holds no bundle that runs."""
