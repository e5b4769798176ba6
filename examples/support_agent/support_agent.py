"""A support agent whose replies are decisions: recorded, and able to run again from their record."""

from __future__ import annotations

import loopgrid
from model import answer, default_model

_TEMPLATE = """\
You are a support agent of Larkfield, a shop for outdoor gear.
Follow the policy. Answer with one JSON object with the keys "action" and "response".
In the response, put the customer's own figures in place of [order] and [amount].

Policy:
<policy>

Customer says: {message}
"""

_POLICY_V1 = """\
- When a customer reports a parcel not arrived, an order not arrived, a late parcel, a parcel missing, \
tracking not moved or a delivery not received, do trace_parcel and say \
"I am sorry about the wait. I have opened a trace for [order] and will write again within a day."
- When a customer reports something arrived broken, arrived damaged, a ripped seam, a leak, a bent pole \
or a broken zip, do replace_item and say \
"I am sorry it failed you. A replacement for [order] leaves our warehouse today."
- When a customer reports the wrong size, the wrong colour, the wrong item or something too small, \
do exchange_item and say "Let us swap it. A prepaid exchange label for [order] is in your inbox."
- When a customer reports a wish to return or send back, do start_return and say \
"Of course. A return label for [order] is in your inbox; the refund follows once it is back."
- When a customer reports a wish to cancel, do cancel_order and say \
"Done: [order] is cancelled and nothing will be charged."
- When a customer reports a change of address, a wrong address or a move house, do change_address and say \
"I have stopped [order] and await your new address."
- When a customer reports a forgotten password, a reset password, can not log in or locked out, \
do reset_password and say "I have sent you a link that sets a new password. It holds for one hour."
- When a customer reports a need for an invoice or a receipt, do send_invoice and say \
"The invoice for [order] is in your inbox as a PDF."
- When a customer reports a charge, a payment, billing, a bank statement or their account, \
do check_account and say "Your account looks fine."
- In any other case, do hand_over and say \
"Thank you for writing. A colleague will answer within one working day."
"""

_DUPLICATE_CHARGE_RULE = """\
- When a customer reports a charge twice, a duplicate charge, two charges, billed twice, paid twice, \
two payments or a double payment, do refund_duplicate and say \
"I see the duplicate charge for [order]. Refund of [amount] initiated."
"""


def _prompt(version: str, policy: str) -> loopgrid.Prompt:
    template = _TEMPLATE.replace("<policy>", policy.rstrip())
    return loopgrid.Prompt("support", version=version, template=template)


SUPPORT_V1 = _prompt("1", _POLICY_V1)
SUPPORT_V2 = _prompt("2", _DUPLICATE_CHARGE_RULE + _POLICY_V1)
"""Version 1 and the rule it lacked: a double charge is not a charge like any other."""

MODEL = default_model()


@loopgrid.decision("customer_support_reply")
def reply(
    message: str, *, prompt: loopgrid.Prompt = SUPPORT_V1, model: loopgrid.Model = MODEL
) -> dict[str, str]:
    """What the agent does about a customer's message (`action`) and says to them (`response`)."""
    return answer(model, prompt.render(message=message))
