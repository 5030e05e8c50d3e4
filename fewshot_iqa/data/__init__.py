"""Where records come from, how they are split, and how they become batches and episodes."""
