"""What can be wrong with a bundle or with what is fed to it.

BundleError
  x ManifestError     the manifest does not say what it must
  x IntegrityError    a file is missing or is not the one that was published
  x ArchiveError      a zip is damaged or unsafe to open
  x SignatureError    nobody who is trusted has signed it; or a key is none
  x GoldenError       the model does not give the answers it was published with
  x RepositoryError   no such model or version, or it can't be published
  x InputError        a raw input can't become tensors
"""

from __future__ import annotations


class BundleError(Exception):
    """Base of everything `bundle` raises; its message is one line for a person."""


class ManifestError(BundleError):
    """The manifest is missing, is not JSON, or breaks its schema."""


class IntegrityError(BundleError):
    """A file of a bundle is missing or has another content than its manifest says."""


class ArchiveError(BundleError):
    """A zip archive is damaged, too large, or holds an entry that is unsafe to open."""


class SignatureError(BundleError):
    """A signature is missing, does not fit or is of a key that is not trusted; or a key is none."""


class GoldenError(BundleError):
    """A model's answers to its golden inputs differ by more than the tolerance."""


class RepositoryError(BundleError):
    """A model or a version is not in the repository, or can't be put there."""


class InputError(BundleError):
    """A raw input breaks a limit of its model.

    Args:
        field: what was wrong, relative to the input, such as `text`.
        problem: the value and the fix, in one sentence without the field.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
