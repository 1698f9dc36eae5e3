"""The composition root: the only package that imports the others.

cli  commands/   the command line             progress   bars with ETA in a terminal
quickstart       the main job, end to end     stack      backend, gateway, demo as child processes
fetch  movies    the example's model, data    demo       the page for product people
"""
