"""Side-by-side measurements against other implementations, printed as JSON."""
