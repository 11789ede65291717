"""A frame and prompts in, masks out."""
