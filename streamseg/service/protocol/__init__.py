"""The wire protocol: its messages as strict models, and their schema; ``docs/protocol.md`` explains it."""

VERSION = 1
SUBPROTOCOL = "streamseg.v1"
