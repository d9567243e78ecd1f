"""What keeps a whole worker from working, as opposed to one call."""

from __future__ import annotations


class ModelUnavailableError(Exception):
    """A model cannot be loaded; the message names it and the setting. Its stage waits until that is put right."""
