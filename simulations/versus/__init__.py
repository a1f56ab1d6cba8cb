"""``fedfer audit compare=[A,B,...]``: what others do better and worse than the first, and for whom.

asked.py says what is compared; rows.py judges saved models, or joins predictions, row by row; seeds.py pairs runs by
their seeds; command.py makes the record, and show.py prints it.
"""
