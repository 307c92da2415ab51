"""Everything around the library: setup, images, clusters, schedules, a local S3 server."""
