import sys

import pytest

from benchmarks.supervise import supervise

WORKER = """
import json, os, sys, time
for job in range(int(sys.argv[1]), 5):
    print("noise", flush=True)
    if job == 1:
        os._exit(3)
    if job == 3:
        time.sleep(60)
    print(json.dumps({"job": job}), flush=True)
"""


def run(**limits):
    records = []
    supervise(
        lambda done: [sys.executable, "-c", WORKER, str(done)],
        5,
        on_record=lambda job, record: records.append((job, record)),
        **limits,
    )
    return records


def test_goes_on_behind_jobs_that_crash_or_hang():
    records = run(job_limit_s=2, total_limit_s=60)
    assert [job for job, _ in records] == [0, 1, 2, 3, 4]
    assert [record.get("job") for _, record in records] == [0, None, 2, None, 4]
    assert "exit code 3" in records[1][1]["error"]
    assert "no answer" in records[3][1]["error"]


@pytest.mark.parametrize("total_limit_s", [0, 2])
def test_says_what_was_not_run_when_time_is_up(total_limit_s):
    records = run(job_limit_s=60, total_limit_s=total_limit_s)
    assert [job for job, _ in records] == [0, 1, 2, 3, 4]
    assert "not run" in records[4][1]["error"]
