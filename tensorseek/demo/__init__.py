"""The demo: one text, the cloud's and the edge's answer side by side.

page      the Gradio page, and the server that shows it
answers   asks gateway and edge bundle; an error becomes a sentence for the page
"""
