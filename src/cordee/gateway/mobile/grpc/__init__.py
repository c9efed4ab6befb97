"""cordee.v1.Chat over gRPC: the same calls, answered as messages."""
