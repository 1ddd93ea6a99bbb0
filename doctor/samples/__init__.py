"""Reading samples that are no table: images, audio, texts and tensors, each read once."""
