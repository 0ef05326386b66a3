"""Recipes: which pieces, which numbers. One function per recipe, listed in `recipes.catalog`."""
