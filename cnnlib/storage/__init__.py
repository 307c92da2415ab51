"""Reads and writes objects for the whole project: URIs, local files and S3, object names, publishing, threads."""
