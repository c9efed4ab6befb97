"""One typed tree; the only reader of configuration files and environment."""
