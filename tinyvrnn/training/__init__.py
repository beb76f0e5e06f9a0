"""Training: the optimiser, the loop, the checkpoint, and the splitting of a batch over workers."""
