"""WebSocket and gRPC: the protocols of the mobile gateways."""
