"""Gateway ↔ worker: one framed, multiplexed connection per pair. `frames` is the format, sans-I/O."""
