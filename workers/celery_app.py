"""The Celery application. Postgres decides what is to be done; messages only wake workers up."""

from __future__ import annotations

from celery import Celery
from celery.signals import setup_logging
from kombu import Exchange, Queue

from workers.logs import configure_logging
from workers.settings import settings

QUEUES = ("transcribe", "analyze", "sweep")
_EXCHANGE = Exchange("aftercall", type="direct")

# Each limit is below the next, so that the gentler one always acts first: a task notices, is told, is killed, and only
# then could a broker hand its message to another worker (RabbitMQ closes the channel at 1,800 s). A drain claims
# nothing more after two minutes, so that even its last job has 18 minutes.
DRAIN_SECONDS = 120
SOFT_TIME_LIMIT_S = 1200
TIME_LIMIT_S = 1500
VISIBILITY_TIMEOUT_S = 3600


def create_app(broker_url: str | None) -> Celery:
    """The application on this broker; no result backend, since results are rows."""
    app = Celery("aftercall", broker=broker_url, include=["workers.tasks", "workers.stopping"])
    app.conf.update(
        # each queue with a routing key of its own: by default all would share the default queue's, and every message
        # would be delivered to every queue
        task_queues=[Queue(name, _EXCHANGE, routing_key=name) for name in QUEUES],
        task_default_queue="sweep",
        task_routes={f"workers.tasks.{name}": {"queue": name} for name in QUEUES},
        task_acks_late=True,
        task_ignore_result=True,
        task_soft_time_limit=SOFT_TIME_LIMIT_S,
        task_time_limit=TIME_LIMIT_S,
        worker_prefetch_multiplier=1,
        # CTranslate2 and CUDA are not fork-safe (github.com/OpenNMT/CTranslate2/issues/539).
        worker_pool_start_method="spawn",
        # a spawned child imports torch on a busy machine; the default of 4 s would kill it over and over
        worker_proc_alive_timeout=120,
        worker_soft_shutdown_timeout=10,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a broker may be away for longer than Celery's patience
        broker_transport_options=_transport_options(broker_url),
        beat_schedule={
            "sweep": {
                "task": "workers.tasks.sweep",
                "schedule": settings().sweep_seconds,
                "options": {"expires": settings().sweep_seconds},
            }
        },
    )
    return app


def _transport_options(broker_url: str | None) -> dict[str, object]:
    if broker_url is not None and broker_url.startswith("amqp"):
        return {"confirm_publish": True}
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_timeout": 30,
        "unacked_restore_throttle": 1,
    }


@setup_logging.connect
def _use_our_logging(**_: object) -> None:
    configure_logging()


app = create_app(settings().broker_url)
