"""Finished datasets: read them back, check, repair, join and split them, and show what is in them."""
