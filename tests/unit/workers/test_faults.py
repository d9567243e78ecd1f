"""Whose fault an error is, told from errors as the libraries raise them."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from obstore.store import S3Store

from workers.faults import whose_fault
from workers.ingest import objects
from workers.ingest.objects import ObjectStoreError


@contextmanager
def store_that_answers(status: int) -> Iterator[str]:
    """The address of a server that answers every request with `status` and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not into the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def error_of_reading(endpoint: str) -> Exception:
    """What reading an object from the store at `endpoint` raises."""

    def opened(_: str) -> Any:
        return S3Store(
            "bucket",
            endpoint=endpoint,
            access_key_id="someone",
            secret_access_key="secret",
            region="here",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    with pytest.raises(ObjectStoreError) as raised:
        list(objects.chunks("s3://bucket/one.wav", opened=opened))
    return raised.value


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_store_that_is_ill_is_no_fault_of_the_call(status: int) -> None:
    with store_that_answers(status) as endpoint:
        assert whose_fault(error_of_reading(endpoint)) == "surroundings"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412])
def test_a_store_s_answer_about_an_object_is(status: int) -> None:
    with store_that_answers(status) as endpoint:
        assert whose_fault(error_of_reading(endpoint)) == "call"


def test_a_store_that_does_not_answer_is_no_fault_of_the_call() -> None:
    assert whose_fault(error_of_reading("http://127.0.0.1:1")) == "surroundings"


def test_an_address_without_a_bucket_is_the_call_s() -> None:
    with pytest.raises(ObjectStoreError) as raised:
        objects.parse("s3:///one.wav")
    assert whose_fault(raised.value) == "call"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_the_call(number: int) -> None:
    assert whose_fault(OSError(number, os.strerror(number))) == "surroundings"


def test_a_disk_that_was_full_from_the_beginning_is_none_either() -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert whose_fault(error) == "surroundings"


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        RuntimeError("CUDA failed with error unspecified launch failure"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_INTERNAL_ERROR"),
    ],
    ids=["torch", "cublas", "triton", "ctranslate2", "ctranslate2-cublas"],
)
def test_after_an_error_of_cuda_the_process_is_broken(error: Exception) -> None:
    assert whose_fault(error) == "process"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("its prompt is too long"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/one.wav"),
        PermissionError(errno.EACCES, "Permission denied", "/one.wav"),
        MemoryError(),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}"[:40],
)
def test_all_else_is_the_call_s(error: Exception) -> None:
    assert whose_fault(error) == "call"
