"""Images, labels and ids from the files that people have: idx, CSV, npy, npz, and folders of pictures."""
