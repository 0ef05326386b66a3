"""Run golden vectors of the published reference implementations through this project's own code."""
