"""The messages of cordee.v1, generated from chat.proto by scripts/proto."""
