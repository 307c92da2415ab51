"""Files to install and run the project: setup, images, clusters, schedules, a local S3 server."""
