"""The screen in a browser: who may come in, a process for each page that is open, and the page.

textual-serve shows a Textual program in a browser. Of it only the front end is taken (`textual.js` with xterm.js in it, its
style sheet, its font) and what that front end and Textual's web driver say to each other. Its server is not: it starts the
program through a shell, asks nobody who they are, loads a font from another host, hands out files, has no limits, waits for
ever for a program that does not end, and each of these is in another of its methods.
"""
