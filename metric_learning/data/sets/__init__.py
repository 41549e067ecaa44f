"""The data sets: one file each, a line each in `data.DATASETS`."""
