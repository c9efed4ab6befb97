"""The decisions: synchronous, pure of clocks, sockets and randomness; `now` and `rng` are arguments."""
