"""One JSON line per event on standard error, with the ids of the call and task bound to it."""

from __future__ import annotations

import logging
import sys

import structlog

# These tell of every look at the schema, every wake-up, every sweep and every channel; what matters of it we log.
_TALKATIVE = (
    "alembic.runtime.migration",
    "celery.app.trace",
    "celery.beat",
    "celery.worker.strategy",
    "faster_whisper",
)


def configure_logging(level: int = logging.INFO) -> None:
    """Send structlog's and the standard library's records through one JSON formatter."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
