"""The calls of `aftercall demo`, and how their recordings were made."""
