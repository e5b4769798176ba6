"""The cell of a notebook. Running it again defines the function again; the new definition counts."""

import loopgrid

loopgrid.configure(service_name="notebook")


@loopgrid.decision("classify")
def classify(text: str) -> str:
    return "question" if text.endswith("?") else "statement"


print(classify("Where is my order?"))
print(loopgrid.flush())
