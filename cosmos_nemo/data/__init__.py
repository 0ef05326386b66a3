"""The sample schema, batches and Energon loaders: where `data_prep` and training meet."""
