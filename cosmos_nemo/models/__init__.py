"""Networks on torch and Megatron-core. A model never learns who trains it."""
