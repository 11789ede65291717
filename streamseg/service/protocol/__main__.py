"""Prints ``docs/protocol.schema.json``."""

import sys

from streamseg.service.protocol.schema import schema_text

sys.stdout.write(schema_text())
