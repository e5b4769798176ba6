"""A plain script: a decision, what happens inside it, and a block of code that is a decision."""

from __future__ import annotations

import loopgrid

loopgrid.configure(service_name="script")


@loopgrid.tool(effect="read")
def find_order(number: str) -> dict[str, object]:
    return {"number": number, "charges": [20, 20]}


@loopgrid.step("compare charges")
def charged_twice(charges: list[int]) -> bool:
    return len(charges) != len(set(charges))


@loopgrid.decision("refund")
def refund(message: str, order: str) -> dict[str, object]:
    now = loopgrid.current()
    now.key("order", order)
    now.considered(["refund", "explain"])
    found = find_order(order)
    charges = found["charges"]
    if isinstance(charges, list) and charged_twice(charges):
        now.not_executed({"action": "pay back", "amount": 20}, reason="an example pays nobody")
        return {"refund": True, "message": message}
    return {"refund": False, "message": message}


if __name__ == "__main__":
    print(refund("I was charged twice", order="4711"))
    with loopgrid.decide("close ticket", input={"order": "4711"}) as decision:
        decision.output = {"close": False}
