"""What is learned, from what, and how it is judged; knows nothing of sites or rounds."""
