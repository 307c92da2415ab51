"""Sources whose images are packed into larger files: WebDataset, TFRecord, Parquet."""
