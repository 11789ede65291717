"""A name -> a ready SAM 2 model.

Import what you need from the modules: `streamseg.models.catalog` (no torch), `streamseg.models.checkpoints`
and `streamseg.models.listing` (no torch either), and `streamseg.models.build`.
"""
