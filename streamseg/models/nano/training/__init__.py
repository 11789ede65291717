"""Training of the embedded model; see `README.md` in the folder above for the recipe."""
