"""``fedfer export``: a trained net as a graph for a box without a GPU, held against the net and audited again.

asked.py reads the words; pictures.py gives what ranges are observed on; gate.py judges the exported model beside the
net and refuses it; command.py does it all and writes the folder.
"""
