"""What workers run into that no single room knows of."""

from __future__ import annotations


class ModelUnavailableError(Exception):
    """A model cannot be loaded; the message names it and the setting. Its stage waits until that is put right."""


class TookTooLongError(Exception):
    """Work ran into its time limit and was interrupted."""
