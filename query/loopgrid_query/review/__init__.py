"""Review queues: which decisions people are asked about, who has which, how far they agree."""
