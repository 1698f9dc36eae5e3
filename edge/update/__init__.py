"""Updates of a device: from a publisher's signed index to a model that runs, or stays as it was.

release  what an index says, and its signature      device   slots, what runs, what ran before
source   a folder or an HTTP address                install  the way of a release onto a device

    publisher   <folder>/index.json  7-dynamic_int8.zip
                     │ signed            │ signed
    device      ─► newer? ─► download ─► verify ─► idle slot ─► golden inputs ─► swap
"""
