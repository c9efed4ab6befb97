"""The services of a conversation: ordinary web applications behind the gateways, one folder and one database each."""
