"""A decision that a worker can run again, with a prompt in two versions."""

from __future__ import annotations

import time

import loopgrid

CURT = loopgrid.Prompt("greeting", version="1", template="Answer {name} in one word.")
KIND = loopgrid.Prompt("greeting", version="2", template="Answer {name} kindly.")


@loopgrid.decision("greeting")
def greet(name: str, *, prompt: loopgrid.Prompt = CURT, thinks_s: float = 0.0) -> str:
    """What to say to somebody. Keyword rules decide; put your model call in their place."""
    time.sleep(thinks_s)
    asked = prompt.render(name=name)
    return f"Good to hear from you, {name}." if "kindly" in asked else "Yes?"
