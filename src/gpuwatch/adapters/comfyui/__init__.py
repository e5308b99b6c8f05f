"""Talking with a ComfyUI server: its address, its HTTP, its websocket, and what its answers mean.

Facts that decide how this is written: errors are told to the submitter alone, so that a monitor asks the job list; `/history`
holds whole workflows and is never asked for without a limit; one client id has one socket, so ours is random.
"""
