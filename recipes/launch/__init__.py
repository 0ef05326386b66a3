"""The launch layer: from the words of a command line to running processes."""
