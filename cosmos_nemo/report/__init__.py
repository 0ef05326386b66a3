"""Pictures and pages about runs, made from the files that they wrote (no NeMo, no model)."""
