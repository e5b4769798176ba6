"""The ledger: the only place that writes, with append verbs only."""
