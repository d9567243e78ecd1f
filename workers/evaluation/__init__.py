"""Evaluation of the two models on simulated calls: what `aftercall eval` runs.

`text_sets`, `text`, `steps` and `decoders` need no speech engine, no database and no Celery, so that a training run on
a bare GPU machine can use them; `speech` and `end_to_end` need the simulator's voices and faster-whisper.
"""
