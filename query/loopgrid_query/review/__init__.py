"""Review queues: which decisions people are asked about, who has which, what they said, how far they agree."""
