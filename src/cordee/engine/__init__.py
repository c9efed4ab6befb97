"""One model in one process: plan the step, run it, sample, emit. `server` is its end of the link."""
