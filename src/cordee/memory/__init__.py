"""The ports in memory: for the simulator, for tests, and to run the path of a call without a world."""
