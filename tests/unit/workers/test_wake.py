from __future__ import annotations

import pytest
from celery import Celery

from workers.celery_app import QUEUES, create_app
from workers.wake import wake


@pytest.fixture
def app() -> Celery:
    """The application on a broker in this process's memory, with empty queues."""
    made = create_app("memory://")
    for waiting in messages(made):
        with made.connection() as connection:
            made.amqp.queues[waiting](connection.default_channel).purge()
    return made


def messages(app: Celery) -> dict[str, int]:
    """How many messages wait in each queue."""
    with app.connection() as connection:
        return {
            name: app.amqp.queues[name](connection.default_channel)
            .queue_declare(passive=False)
            .message_count
            for name in QUEUES
        }


@pytest.mark.parametrize("stage", ["transcribe", "analyze"])
def test_a_wake_up_reaches_the_workers_of_its_stage_and_no_others(app: Celery, stage: str) -> None:
    messages(app)  # declares every queue, as running workers do
    assert wake(app, stage)  # type: ignore[arg-type]
    assert messages(app) == {name: int(name == stage) for name in QUEUES}


def test_a_broker_that_is_down_is_told_and_nothing_raised() -> None:
    assert not wake(create_app("redis://127.0.0.1:1/0"), "transcribe")


def test_time_limits_strike_in_order(app: Celery) -> None:
    conf = app.conf
    assert conf.task_soft_time_limit < conf.task_time_limit < 1_800  # RabbitMQ's consumer_timeout
    assert conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]


def test_models_are_never_forked(app: Celery) -> None:
    assert app.conf.worker_pool_start_method == "spawn"
