"""The record of a game day, made from what people did and from the drills' own records.

The game day and its reports come in. Nothing here starts or asks anything; what it reads may be anybody's.
"""
