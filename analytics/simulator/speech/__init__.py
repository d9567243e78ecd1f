"""Synthetic telephone speech for simulated calls: voices, verbaliser, call assembly."""
