"""What a run leaves for people to look at, made from the files it wrote (no NeMo, no model)."""
