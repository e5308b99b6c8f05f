"""What jobs took on this machine, learned from those that ran: which of them are alike, how large each was, what it held.

`jobs` is what is known of a job, `reading` takes it off a workflow; `watching` turns samples of the card and ended jobs into
measured runs; `runs` keeps them and answers from them. Nothing here reads a file or a clock.
"""
