"""The doors: OTLP over HTTP and over gRPC. Each one parses, calls ingest and answers."""
