"""Finished datasets: read them back, check, mend, join and split them, and show what is in them."""
