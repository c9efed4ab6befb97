"""Virtual time: the code of flow and policy as it runs in production, in a world that obeys a seed."""
