"""The closed loop's decisions: what to try next on a failed prompt, what was tried, when to give up.

Nothing here asks a server. `tried` remembers what became of fixes, `next_try` picks one, `rewrite` is the one that keeps the
picture, `bulk` says which photo goes where. `adapters/comfyui/acting.py` does what they decide.
"""
