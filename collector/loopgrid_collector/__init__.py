"""LoopGrid's collector: OTLP in, ledger on disk."""
