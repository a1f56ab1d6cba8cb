"""From a trained net to a box without a GPU: folding, ONNX, INT8, OpenVINO, and running what was exported.

folding.py makes plain convolutions of what can be folded; graphs.py writes the ONNX graph and quantises it; files.py
holds the folder of an exported model; runtime.py runs one, without torch's autograd and without the net's code.
"""
