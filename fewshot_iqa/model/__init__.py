"""CLIP with prompts: backbone, prompt modules, heads, and the checkpoint that keeps what was trained."""
