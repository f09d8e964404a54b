"""How much of a reply is kept: a target that is broken, or hostile, must not take the load process with it."""

BODY = 64 * 1024 * 1024
"""Bytes of a body, packed and unpacked. What is more is read and counted, and not kept."""

HEAD = 256 * 1024
"""Bytes of a head."""

HEAD_LINES = 1_000
"""Header lines of a reply."""

QUIET = 256 * 1024
"""Bytes of a reply after its head that are nothing of its body: before a chunk, and after the last."""

PACKINGS = 5
"""Times that a body may be packed: a few hundred bytes, packed often enough, are more than any disk holds."""
