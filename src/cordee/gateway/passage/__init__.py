"""What is not for models passes through the gateway to the services behind it."""
