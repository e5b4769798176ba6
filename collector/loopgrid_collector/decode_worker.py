"""The program of a decoding process: questions in, answers out, until the server is done.

It holds no file of the ledger and no port. The server's death ends it, as the other end of its channel
closes; signals that stop a server are the server's to answer.
"""

from __future__ import annotations

import signal
import socket
import sys

import pyarrow as pa

from loopgrid_collector import logs, runtime
from loopgrid_collector.decode_wire import READY, Answers, asked
from loopgrid_collector.decoding import append_of
from loopgrid_collector.errors import Undecodable


def main() -> None:
    """Answer what is asked over the file descriptor named by the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logs.configure(sys.stderr)
    runtime.keep_memory()
    # One question at a time, and the machine's other cores have their own process.
    pa.set_cpu_count(1)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        answers = Answers(channel)
        channel.sendall(READY)
        while (question := asked(channel)) is not None:
            kind, bodies = question
            try:
                append = append_of(kind, *bodies)
            except Undecodable as error:
                answers.refuse(str(error))
            else:
                answers.give(append)


if __name__ == "__main__":
    main()
