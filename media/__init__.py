"""Files and arrays: images, audio, geometry, npy and npz. Knows nothing of HTTP."""
