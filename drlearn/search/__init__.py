"""Search through a learned structure: beam search, candidates and their order."""
