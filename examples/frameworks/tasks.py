"""Celery with prefork workers; a folder stands in for the broker.

celery --app tasks worker --pool prefork --concurrency 2
python tasks.py
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_shutdown

import loopgrid

loopgrid.configure(service_name="tasks")

FOLDER = Path(os.environ.get("QUEUE_FOLDER", "queue")).resolve()
for name in ("messages", "processed", "control", "results"):
    (FOLDER / name).mkdir(parents=True, exist_ok=True)

app = Celery("tasks", broker="filesystem://", backend=f"file://{FOLDER / 'results'}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(FOLDER / "messages"),
        "data_folder_out": str(FOLDER / "messages"),
        "processed_folder": str(FOLDER / "processed"),
        "control_folder": str(FOLDER / "control"),
    },
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
)


@loopgrid.step("read")
def read(message: str) -> list[str]:
    return message.lower().split()


@app.task  # type: ignore[untyped-decorator]  # Celery ships no types
@loopgrid.decision("triage")
def triage(message: str) -> dict[str, object]:
    loopgrid.current().metadata(worker=os.getpid())
    return {"urgent": "now" in read(message)}


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def send_what_is_left(**_: object) -> None:
    # Forked workers end without Python's exit handlers.
    loopgrid.flush()


def main() -> None:
    waiting = [triage.delay(f"ticket {number}: please help now") for number in range(8)]
    for result in waiting:
        print(result.get(timeout=60))


if __name__ == "__main__":
    main()
