"""Attributes of any instrumentation to the decision record. Pure: nothing here performs I/O."""
