"""The load: Locust in processes of its own, commanded over a pipe.

`launcher` and `protocol` are for the conductor and import neither locust nor gevent. Everything else runs in the
load process (`python -m harness.load`):

    __main__     which of the programs: describe, worker, elsewhere, read-back, or the load itself
    start        what must happen before locust is imported
    main         the load process: local workers, commands, the only writer of windows.jsonl
    members      the generators as the main process sees them; Locust's master kept from acting on its own
    gate         workers on other machines: who may join, are they there, their clocks
    keys         a key pair for each load process, and the files for those on other machines
    door         CURVE on Locust's sockets: who is let in, and whose a message is
    clocks       another machine's clock mapped onto ours by round trips
    channel      a remote worker's own line to the main process, on a real thread
    worker       one generator of load: users, recorder, commands from the main process
    dispatcher   open model: hands arrivals of the schedule to users, starts users, gives up after 1 s
    closed       closed model: task starts, usual cycles, virtual arrivals for the cycles a user missed
    hooks        where Locust's users meet the two models and the recorder
    recorder     counts by step, class and request name; rows, marks, saturation
    tally        the mutable counts behind a row
    calls        one request, and whose it is
    failures     the kind of a failed request
    tracker      start, total time-out and outcome of every request
    stats        Locust's own statistics, kept up in bulk
    clients      Locust's clients, told to report to the tracker
    lean         a fast client of our own, for locustfiles to use
    locustfile   import of the user's file, description of its classes
    acknowledged writes that a locustfile notes to have them read back (for locustfiles, too)
    readback     looks for them when the load has ended
    hosts        where load may be sent; pinned: the addresses of names; redirects: those that leave
    pipe         lines from the parent on a real thread; the end of the pipe is the end of the process
"""
