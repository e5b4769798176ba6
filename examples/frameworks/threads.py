"""Threads: steps in a pool belong to the decision that started them, if they are given its context."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor

import loopgrid

loopgrid.configure(service_name="threads")


@loopgrid.step("score")
def score(word: str) -> int:
    return len(word)


@loopgrid.decision("rank")
def rank(words: list[str]) -> list[str]:
    with ThreadPoolExecutor(4) as pool:
        # A thread starts with an empty context: hand it a copy of this one, each call its own.
        scores = [pool.submit(contextvars.copy_context().run, score, word) for word in words]
        found = {word: future.result() for word, future in zip(words, scores, strict=True)}
    return sorted(words, key=lambda word: found[word])


def main() -> None:
    with ThreadPoolExecutor(4) as pool:
        for ranked in pool.map(rank, [["three", "a", "to"]] * 8):
            print(ranked)


if __name__ == "__main__":
    main()
