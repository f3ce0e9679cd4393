"""What a trained model is on disk, and how its graphs are called: manifest, store, noise."""
