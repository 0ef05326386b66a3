"""Recipes: which pieces, which numbers. One function per recipe, listed in `cosmos_nemo.catalog`."""
