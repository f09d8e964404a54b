"""What tests of several folders use, and no test itself: a room a kind.

Helpers of one folder's tests lie in that folder. Everything here is imported by its whole name, so that each module
is there once.
"""
