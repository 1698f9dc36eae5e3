"""The demo: what the published models do, in the cloud and on the edge, for everybody.

page       the tabs, and the server that shows them
*_tab      one tab each
answers    asks gateway and edge bundles; an error becomes a sentence for the page
"""
