"""``fedfer predict``: expressions in pictures, folders, films and from a camera, a line a face, in flat memory.

asked.py reads the words; judges.py asks a net or an exported graph; stream.py goes through the frames in batches;
output.py writes lines and annotated copies.
"""
