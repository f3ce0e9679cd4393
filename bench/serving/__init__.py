"""How close the service comes to bare ONNX Runtime, and how other serving frameworks do beside it."""
