"""The only door to bytes: URIs, local files and S3, object names, publishing, reading in threads."""
