"""Whether a worker can be believed, a prompt is deadly, and this process keeps up."""
