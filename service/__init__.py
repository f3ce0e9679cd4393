"""The online half: HTTP in front, ONNX Runtime behind."""
