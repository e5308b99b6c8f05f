"""What happened, kept on disk: incidents, jobs, fixes, and how far each log was read. SQLite, in the person's state folder.

`writing` is for the one gpuwatch that keeps the journal, `fixes` for every one that tries a fix, `news` tells what others wrote,
`reading` is for looking back. Nothing about the journal ever stops the watching.
"""
