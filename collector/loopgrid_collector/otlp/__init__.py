"""OTLP bytes to Arrow columns. Pure: nothing here performs I/O."""
