"""The embedded Valkey as a broker: real server, real messages."""

import os
import signal
import stat

import pytest
from kombu import Connection

from workers.local.broker import LocalBroker, LocalBrokerError


def send(url, text):
    with Connection(url) as connection:
        connection.SimpleQueue("letters").put(text)


def receive(url):
    with Connection(url) as connection:
        message = connection.SimpleQueue("letters").get(timeout=10)
        message.ack()
        return message.payload


def test_messages_outlive_a_restart(tmp_path):
    broker = LocalBroker(tmp_path)
    send(broker.start(), "hello")
    broker.stop()
    assert not broker.is_running
    again = LocalBroker(tmp_path)
    try:
        assert receive(again.start()) == "hello"
    finally:
        again.stop()


def test_only_its_owner_can_enter(tmp_path):
    broker = LocalBroker(tmp_path)
    url = broker.start()
    try:
        mode = os.stat(url.removeprefix("redis+socket://")).st_mode
        assert stat.S_IMODE(mode) & 0o077 == 0
    finally:
        broker.stop()


def test_a_long_data_directory_gets_a_short_socket(tmp_path):
    broker = LocalBroker(tmp_path / ("d" * 100))
    url = broker.start()
    try:
        send(url, "through")
        assert receive(url) == "through"
    finally:
        broker.stop()
    assert not os.path.exists(url.removeprefix("redis+socket://"))


def test_a_server_left_behind_is_replaced_with_its_messages(tmp_path):
    left_behind = LocalBroker(tmp_path)
    send(left_behind.start(), "not lost")
    successor = LocalBroker(tmp_path)
    try:
        assert receive(successor.start()) == "not lost"
        assert not left_behind.is_running
    finally:
        successor.stop()
        left_behind.stop()


def test_a_server_that_cannot_start_says_where_to_look(tmp_path):
    (tmp_path / "broker" / "valkey.log").mkdir(parents=True)
    with pytest.raises(LocalBrokerError, match=r"valkey\.log"):
        LocalBroker(tmp_path).start()


def test_a_killed_server_is_noticed(tmp_path):
    broker = LocalBroker(tmp_path)
    broker.start()
    assert broker._process is not None
    broker._process.send_signal(signal.SIGKILL)
    broker._process.wait()
    assert not broker.is_running
    broker.stop()
